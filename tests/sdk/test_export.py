import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import leyden
from fakes.sink import Scripted, Sink
from leyden.sdk import config, delivery, export
from leyden.sdk.spool import Request, Spool

Start = Callable[..., Any]


def record(*names: str) -> None:
    for name in names:
        with leyden.trace(name):
            pass


def free_port() -> int:
    sink = Sink()
    sink.close()
    return sink.port


def segments(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "spool").glob("*/*/*.seg"))


def test_spans_wait_on_disk_while_the_server_is_away_and_arrive_once(start: Start, tmp_path: Path) -> None:
    port = free_port()
    start(url=f"http://127.0.0.1:{port}")
    with leyden.rollout("x") as r:
        record("first")
    assert not leyden.flush()
    record("second")
    assert not leyden.flush()
    assert config.stats().spooled == 2
    assert segments(tmp_path)
    sink = Sink(port)
    try:
        record("third")
        assert leyden.flush()
        record("fourth")
        assert leyden.flush()
        assert sink.names == ["first", "second", "third", "fourth"]
        paths = [path for path, _ in sink.taken]
        assert paths[:3] == [
            "/api/rollouts",
            "/v1/traces",
            f"/v1/agl/rollouts/{r.rollout_id}/attempts/{r.attempt_id}",
        ]
        assert segments(tmp_path) == []
        assert config.stats().lost == 0
        leyden.shutdown()
        assert list((tmp_path / "spool").glob("*/*")) == []
    finally:
        leyden.shutdown()
        sink.close()


def test_a_returning_server_gets_everything_without_a_flush(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(delivery, "_BACKOFF_MAX_S", 0.02)
    port = free_port()
    start(url=f"http://127.0.0.1:{port}", flush_s=0.01)
    record("early")
    exporter = config.running
    assert exporter is not None
    until(lambda: config.stats().spooled == 1)
    sink = Sink(port)
    try:
        until(lambda: sink.names == ["early"])
        assert config.stats().retries >= 1
    finally:
        leyden.shutdown()
        sink.close()


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for another thread or process."""
    end = time.monotonic() + seconds
    never = threading.Event()
    while not true():
        assert time.monotonic() < end, "waited in vain"
        never.wait(0.005)


def test_without_a_spool_spans_wait_in_memory(start: Start, tmp_path: Path) -> None:
    port = free_port()
    start(url=f"http://127.0.0.1:{port}", spool_bytes=0, buffer_spans=3, batch_spans=2)
    record("a")
    assert not leyden.flush()
    record("b", "c", "d", "e")
    assert not leyden.flush()
    assert config.stats().dropped_full == 1
    assert segments(tmp_path) == []
    sink = Sink(port)
    try:
        assert leyden.flush()
        assert sink.names == ["a", "b", "c", "d"]
    finally:
        leyden.shutdown()
        sink.close()


def test_a_full_buffer_drops_the_newest_counts_them_and_says_so_once(
    start: Start, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    start(buffer_spans=5, batch_spans=100)
    record(*"abcdefgh")
    assert config.stats().recorded == 5
    assert leyden.flush()
    assert sink.names == list("abcde")
    with caplog.at_level(logging.WARNING, logger="leyden"):
        leyden.shutdown()
    assert [r.getMessage() for r in caplog.records] == [
        "Leyden lost 3 spans and 0 rollout notes: buffer full 3"
    ]


def test_the_buffer_is_bounded_by_bytes_too(
    start: Start, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_MAX_BUFFER_BYTES", 100_000)
    start()
    big = leyden.trace(lambda text: None)
    for _ in range(10):
        big("x" * 30_000)
    assert config.stats().dropped_full == 7
    assert leyden.flush()
    assert len(sink.spans) == 3


def test_nothing_lost_means_nothing_said(start: Start, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    start()
    record("a")
    with caplog.at_level(logging.DEBUG, logger="leyden"):
        leyden.shutdown()
    assert caplog.records == []
    assert sink.names == ["a"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_drops_with_one_line(
    start: Start, sink: Sink, caplog: pytest.LogCaptureFixture, status: int, tmp_path: Path
) -> None:
    start()
    sink.always = Scripted(status)
    with caplog.at_level(logging.WARNING, logger="leyden"):
        for name in "abc":
            record(name)
            assert leyden.flush()
    assert len(caplog.records) == 1
    assert config.stats().dropped_unauthorized == 3
    assert segments(tmp_path) == []


def test_a_refused_batch_is_dropped_with_one_line_and_the_next_one_goes_on(
    start: Start, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    start()
    sink.script.extend([Scripted(400, body={"detail": "odd"}), Scripted(400, body={"detail": "odd"})])
    with caplog.at_level(logging.WARNING, logger="leyden"):
        for name in "abc":
            record(name)
            leyden.flush()
    assert len(caplog.records) == 1
    assert "odd" in caplog.text
    assert config.stats().dropped_refused == 2
    assert sink.names == ["c"]


def test_spans_rejected_inside_a_batch_are_counted(start: Start, sink: Sink) -> None:
    start()
    sink.script.append(
        Scripted(200, body={"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too large"}})
    )
    record("a", "b")
    assert leyden.flush()
    assert (config.stats().rejected, config.stats().sent) == (1, 1)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_overloaded_server_is_asked_again_and_gets_the_batch(
    start: Start, sink: Sink, status: int
) -> None:
    start()
    sink.script.append(Scripted(status, headers={"Retry-After": "0"}))
    record("a")
    assert leyden.flush()
    assert [h[":status"] for _, _, h in sink.requests] == [str(status), "200"]
    assert sink.names == ["a"]


def test_retry_after_is_honoured(start: Start, sink: Sink) -> None:
    start()
    sink.script.append(Scripted(503, headers={"Retry-After": "120"}))
    record("a")
    # Two minutes are longer than this caller waits: it is told so at once, and nothing is sent before its time.
    assert not leyden.flush(timeout_s=30)
    assert config.running is not None
    assert config.running.exporter._delivery.retry_at is not None
    assert config.running.exporter._delivery.retry_at - time.monotonic() > 100
    assert len(sink.requests) == 1


def test_retry_after_reads_seconds_and_dates() -> None:
    assert delivery.retry_after_s("7", now=0) == 7
    assert delivery.retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", now=10) == 50
    assert delivery.retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", now=100) == 0
    assert delivery.retry_after_s("soon", now=0) == 0
    assert delivery.retry_after_s(None, now=0) == 0


def test_the_agent_never_waits_for_a_server_that_hangs(start: Start, sink: Sink, tmp_path: Path) -> None:
    start(batch_spans=2)
    sink.gate.clear()
    record("a", "b")
    assert sink.entered.wait(5)
    began = time.perf_counter()
    record(*"cdefghij")
    assert time.perf_counter() - began < 0.5
    assert not leyden.flush(timeout_s=0.05)
    # At the end, what the server did not take in time is on disk, the batch on its way included.
    leyden.shutdown(timeout_s=0.05)
    held = b"".join(path.read_bytes() for path in segments(tmp_path))
    assert all(f'"name":"{name}"'.encode() in held for name in "abcdefghij")
    sink.gate.set()


def test_requests_over_a_kilobyte_are_compressed(start: Start, sink: Sink) -> None:
    start(api_key="lk_secret")
    record(*(f"span {i}" for i in range(50)))
    assert leyden.flush()
    [(_, _, headers)] = sink.requests
    assert headers["content-encoding"] == "gzip"
    assert headers["authorization"] == "Bearer lk_secret"
    assert len(sink.spans) == 50


def test_odd_attribute_values_cost_no_batch(start: Start, sink: Sink) -> None:
    start()
    with leyden.trace("odd") as span:
        span.set_attribute("surrogate", "\ud800x")
        span.set_attribute("nan", float("nan"))
        span.set_attribute("huge", 2**70)
        span.otel.set_attribute("bytes", b"\x00\xff")
        span.otel.set_attribute("list", [1, 2])
    assert leyden.flush()
    attributes = sink.span("odd")["attributes"]
    assert attributes["surrogate"] == "?x"
    assert attributes["nan"] == "NaN"
    assert attributes["huge"] == hex(2**70)
    assert attributes["bytes"] == "AP8="
    assert attributes["list"] == [1, 2]


def test_spans_of_many_threads_all_arrive_once(start: Start, sink: Sink) -> None:
    start(batch_spans=64, flush_s=0.01)

    def work(n: int) -> None:
        record(*(f"{n}-{i}" for i in range(100)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert leyden.flush(timeout_s=20)
    assert sorted(sink.names) == sorted(f"{n}-{i}" for n in range(8) for i in range(100))


CHILD = """
import sys, leyden
leyden.init(sys.argv[1], flush_s=600)
with leyden.rollout("x"):
    with leyden.trace(sys.argv[2]): pass
"""


def python(code: str, *args: str, tmp_path: Path, **more: Any) -> subprocess.Popen[str]:
    env = os.environ | {"LEYDEN_SPOOL_DIR": str(tmp_path / "spool")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def test_a_process_that_ends_sends_what_it_recorded(sink: Sink, tmp_path: Path) -> None:
    out, err = python(CHILD, sink.url, "last words", tmp_path=tmp_path).communicate(timeout=20)
    assert (out, err) == ("", "")
    assert sink.names == ["last words"]
    assert sink.taken[-1][1] == {"status": "succeeded"}


def test_what_a_process_left_on_disk_is_sent_by_the_next_one(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    python(CHILD, url, "left", tmp_path=tmp_path).communicate(timeout=20)
    assert segments(tmp_path)
    sink = Sink(port)
    try:
        python(CHILD, url, "next", tmp_path=tmp_path).communicate(timeout=20)
        assert sink.names == ["left", "next"]
        assert list((tmp_path / "spool").glob("*/*")) == []
    finally:
        sink.close()


def test_spans_on_disk_survive_kill_minus_nine(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    code = CHILD + "leyden.flush(); print('spooled', flush=True); sys.stdin.read()"
    killed = python(code, url, "killed", tmp_path=tmp_path, stdin=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "spooled\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=20)
    sink = Sink(port)
    try:
        python(CHILD, url, "after", tmp_path=tmp_path).communicate(timeout=20)
        assert sink.names == ["killed", "after"]
        assert segments(tmp_path) == []
    finally:
        sink.close()


def test_two_keys_never_share_a_spool(tmp_path: Path, start: Start) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for key in ("lk_one", "lk_two"):
        start(url=url, api_key=key)
        record(key)
        leyden.shutdown(timeout_s=2)
    assert len({path.parent.parent for path in segments(tmp_path)}) == 2


def test_the_spool_is_readable_by_its_user_only(tmp_path: Path, start: Start) -> None:
    start(url=f"http://127.0.0.1:{free_port()}")
    record("a")
    assert not leyden.flush()
    [segment] = segments(tmp_path)
    assert segment.stat().st_mode & 0o077 == 0


def test_a_forked_child_starts_empty_and_sends_its_own(start: Start, sink: Sink) -> None:
    start()
    record("parent before")
    pid = os.fork()
    if pid == 0:
        try:
            record("child")
            os._exit(0 if leyden.flush(timeout_s=10) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert sink.names == ["child"]
    record("parent after")
    assert leyden.flush()
    assert sorted(sink.names) == ["child", "parent after", "parent before"]


def in_child() -> None:
    record("from multiprocessing")


def test_a_multiprocessing_child_sends_before_it_ends(start: Start, sink: Sink) -> None:
    start()
    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert sink.names == ["from multiprocessing"]


def test_init_twice_returns_the_first_and_warns_once(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    first = start(agent="a")
    with caplog.at_level(logging.WARNING, logger="leyden"):
        assert start(agent="a") is first
        assert not caplog.records
        assert start(agent="b") is first
        assert start(agent="c") is first
    assert len(caplog.records) == 1


def test_many_threads_may_call_init(sink: Sink) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(leyden.init(sink.url))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(it) for it in found}) == 1


@pytest.mark.parametrize(("options", "named"), [({"smaple": 1}, "smaple"), ({"sample": 2.0}, "sample")])
def test_a_bad_setting_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(leyden.LeydenError, match=named):
        leyden.init(**options)


def test_shutdown_allows_a_new_start(start: Start, sink: Sink) -> None:
    start(agent="a")
    record("one")
    leyden.shutdown()
    start(agent="b")
    record("two")
    assert leyden.flush()
    assert sink.names == ["one", "two"]


# ── The spool alone ──────────────────────────────────────────────────────────────────────────────────────────────


def request(n: int, size: int = 10) -> Request:
    return Request("/v1/traces", json.dumps({"n": n, "pad": "x" * size}).encode(), 1)


def drain(spool: Spool) -> list[int]:
    found: list[int] = []
    while (it := spool.peek()) is not None:
        found.append(json.loads(it.body)["n"])
        spool.advance()
    return found


def test_a_full_spool_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "d", limit_bytes=10_000)
    for n in range(100):
        assert spool.append(request(n, 400))
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*/*.seg")) <= 10_000
    left = drain(spool)
    assert left == list(range(100 - len(left), 100))
    assert len(left) + spool.lost_spans == 100
    assert len(left) > 10
    spool.close()


def test_a_cut_line_is_skipped_and_counted(tmp_path: Path) -> None:
    first = Spool(tmp_path / "d", limit_bytes=10_000)
    first.append(request(1))
    first.append(request(2))
    [segment] = tmp_path.glob("*/*/*.seg")
    segment.write_bytes(segment.read_bytes()[:-9])
    assert drain(first) == [1]
    assert first.lost_spans == 1
    first.close()


def test_what_is_appended_while_reading_comes_last(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "d", limit_bytes=10_000)
    spool.append(request(1))
    spool.append(request(2))
    assert spool.peek() == request(1)
    spool.append(request(3))
    assert drain(spool) == [1, 2, 3]
    assert not spool
    spool.close()


def test_a_living_owners_folder_is_left_alone_and_a_dead_ones_is_taken(tmp_path: Path) -> None:
    owner = Spool(tmp_path / "d", limit_bytes=10_000)
    owner.append(request(1))
    heir = Spool(tmp_path / "d", limit_bytes=10_000)
    heir.adopt()
    assert heir.peek() is None
    owner.close()
    heir.append(request(2))
    heir.adopt()
    assert drain(heir) == [1, 2]
    heir.close()
    assert list(tmp_path.glob("*/*")) == []


def test_a_disk_that_refuses_is_answered_with_false(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not Spool(tmp_path / "file" / "d", limit_bytes=10_000).append(request(1))


# ── Heartbeats ───────────────────────────────────────────────────────────────────────────────────────────────────


def beats(sink: Sink) -> list[str]:
    return [path for path, body, _ in list(sink.requests) if set(body) == {"last_heartbeat_time"}]


def path_of(rollout: Any) -> str:
    return f"/v1/agl/rollouts/{rollout.rollout_id}/attempts/{rollout.attempt_id}"


def test_an_open_rollout_that_is_silent_gets_heartbeats_until_it_ends(
    start: Start, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "HEARTBEAT_S", 0.02)
    start(flush_s=0.01)
    with leyden.rollout("long") as r:
        until(lambda: len(beats(sink)) >= 3)
    assert leyden.flush()
    told = len(beats(sink))
    assert set(beats(sink)) == {path_of(r)}
    assert sink.taken[-1] == (path_of(r), {"status": "succeeded"})
    record("later")
    assert leyden.flush()
    assert len(beats(sink)) == told


def test_a_rollout_that_sends_spans_or_is_claimed_needs_no_heartbeat(start: Start, sink: Sink) -> None:
    start(flush_s=0.0)
    with leyden.rollout("busy"), leyden.rollout(rollout_id="ro-claimed", attempt_id="at-1"):
        record("a")
        assert leyden.flush()
        assert config.running is not None
        due = config.running.exporter._delivery.beat_at
        assert due is not None
        assert due - time.monotonic() > delivery.HEARTBEAT_S - 10
        assert beats(sink) == []


def test_heartbeats_never_wait_on_disk(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delivery, "HEARTBEAT_S", 0.01)
    start(url=f"http://127.0.0.1:{free_port()}", flush_s=0.01)
    with leyden.rollout("x"):
        until(lambda: bool(segments(tmp_path)))
        threading.Event().wait(0.1)
        assert not leyden.flush()
    leyden.shutdown(timeout_s=2)
    assert all(b"last_heartbeat_time" not in path.read_bytes() for path in segments(tmp_path))


def test_a_rollout_whose_end_found_no_room_is_not_kept_alive(
    start: Start, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(flush_s=600.0)
    with leyden.rollout("x"):
        assert leyden.flush()
        monkeypatch.setattr(export, "_NOTES_RESERVE", -(10**6))
    assert config.stats().notes_lost == 1
    assert config.running is not None
    assert config.running.exporter._delivery.beat_at is None
