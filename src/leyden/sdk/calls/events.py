"""Calls about what changes while it changes."""

import json
from collections.abc import Generator, Sequence
from typing import Any

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
        params = {"topics": None if topics is None else ",".join(topics), "rollout_id": rollout_id}
        topic, data, is_comment = "", "", False
        for line in self.wire.lines(f"{API}/events", params=params, quiet_s=_QUIET_S):
            name, _, value = line.partition(":")
            if line and not name:
                is_comment = True
            elif name == "event":
                topic = value.strip()
            elif name == "data":
                data = value
            elif not line and (data or is_comment):
                yield _event(topic, json.loads(data)) if data else None
                topic, data, is_comment = "", "", False


def _event(topic: Any, data: dict[str, Any]) -> StoreEvent:
    return StoreEvent(topic, data["id"], data["status"], data["project"])
