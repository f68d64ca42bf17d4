"""Promise: two thousand streams through the gateway at once are served, and one costs the same memory whether it is the first or the last."""

import itertools
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.model_answers import chat_events
from fakes.model_server import Gate, ModelServer, stream
from faults.crowd import Crowd
from gateway.serving import QUESTION, only, own_process, process_of


@pytest.fixture
def streams() -> Iterator[int]:
    """Raises how many files this process and its children may open, for the time of a test; how many streams that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20_000 if hard == resource.RLIM_INFINITY else min(hard, 20_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield min(STREAMS, (wanted - 500) // 3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


STREAMS = 2_000
MOST_PER_STREAM = 64 * 1024  # bytes; 33 KB were measured


def test_two_thousand_streams_at_once_are_served_in_memory_that_does_not_grow(
    tmp_path: Path, streams: int
) -> None:
    before, after = chat_events("a few words to begin with"), chat_events("and a few more")
    asked = QUESTION | {"stream": True, "stream_options": {"include_usage": True}}
    with ModelServer() as model, own_process(tmp_path, only(model, record={"content": "none"})) as gate:
        process, path = process_of(gate), f"{gate.base}/v1/chat/completions"
        gate.post()  # what the first call of all loads stays
        idle, resident = process.memory_info().rss, list[int]()
        for readers in (streams // 2, streams):
            wait = Gate()
            model.always = stream(*before[:-2], wait, *after)

            def look(readers: int = readers, wait: Gate = wait) -> None:
                assert gate.state()["in_flight"] == readers
                resident.append(process.memory_info().rss)
                wait.open()

            crowd = Crowd(gate.url, path, asked, readers=readers, first=len(b"".join(before[:-2])))
            assert set(crowd.gather(look)) == {b"".join([*before[:-2], *after])}
        state = gate.settled(streams + streams // 2 + 1)
    assert (state["recorded"], state["lost"], state["in_flight"]) == (streams + streams // 2 + 1, 0, 0)
    each = [(grown - before) / (streams / 2) for before, grown in itertools.pairwise([idle, *resident])]
    assert max(each) < MOST_PER_STREAM, f"{each} bytes a stream"
