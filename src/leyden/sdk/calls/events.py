"""Calls about what changes while it changes."""

import json
from collections.abc import Generator, Sequence
from typing import Any

from leyden.errors import BadInput
from leyden.sdk.calls.base import API, Calls
from leyden.types import StoreEvent, Topic

# The server says something every 15 seconds; a connection that is silent for three times that is dead.
_QUIET_S = 45.0


class EventCalls(Calls):
    """Follow a server."""

    def events(
        self, *, topics: Sequence[Topic] | None = None, rollout_id: str | None = None
    ) -> Generator[StoreEvent | None]:
        """What changes from now on, as it changes, until the server stops; close the generator to leave.

        The first item is None: from then on nothing is missed, so read the present state after it. None also comes every 15
        seconds without an event. topics: all when None. rollout_id: only that rollout's rollout and span events. An event of
        topic "gap" says that some were missed: read again. Raises ServerUnreachable when the connection breaks; needs a
        running server.
        """
        if self.wire.in_process:
            raise BadInput("Live events come from a running server only", hint="start one with `leyden up`")
        params = {"topics": None if topics is None else ",".join(topics), "rollout_id": rollout_id}
        with self.wire.receive(f"{API}/events", params=params, quiet_s=_QUIET_S) as pieces:
            held = b""
            for piece in pieces:
                *frames, held = (held + piece).split(b"\n\n")
                yield from map(_read, frames)


def _read(frame: bytes) -> StoreEvent | None:
    """One frame of the stream; None for a comment."""
    fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if b": " in line)
    return _event(fields[b"event"].decode(), json.loads(fields[b"data"])) if b"data" in fields else None


def _event(topic: Any, data: dict[str, Any]) -> StoreEvent:
    return StoreEvent(topic, data["id"], data["status"], data["project"])
