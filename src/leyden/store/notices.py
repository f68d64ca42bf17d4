"""What changed, as PostgreSQL carries it from one replica to the others: notices in, payloads of NOTIFY out, and back.

A notice is a name that somebody may wait for ("queue:default", "rollout:ro-…", "keys"), or a StoreEvent for those who watch.
Promises: a payload fits NOTIFY (under 8000 bytes); what would need too many of them becomes EVERYTHING, one notice that
wakes everybody once. Notices are hints: who is woken looks at the store.
Refuses to know: connections (`listening.py`) and who waits (`server/context.py`, `server/events.py`).
"""

from collections.abc import Iterable
from typing import Any, cast

import orjson

from leyden.types import StoreEvent

Notice = str | StoreEvent


class Notices(dict[Notice, None]):
    """A set of notices that keeps the order in which they were added last."""

    def add(self, notice: Notice) -> None:
        """Add one, behind all others."""
        self.pop(notice, None)
        self[notice] = None


CHANNEL = "leyden"
EVERYTHING = "*"  # anything may have changed: wake everybody once
# PostgreSQL takes 7999 bytes; some are left for the sender's name.
PAYLOAD_BYTES = 7900
MOST_PAYLOADS = 8


def payloads(notices: Iterable[Notice], *, sender: str) -> list[str]:
    """The notices as texts for NOTIFY; `sender` lets a replica know its own."""
    parts, size = list[list[bytes]]([[]]), 0
    for notice in notices:
        piece = orjson.dumps(notice, default=tuple)
        size += len(piece) + 1
        if size > PAYLOAD_BYTES:
            parts.append([])
            size = len(piece) + 1
        parts[-1].append(piece)
    if len(parts) > MOST_PAYLOADS or any(len(piece) > PAYLOAD_BYTES for part in parts for piece in part):
        parts = [[orjson.dumps(EVERYTHING)]]
    return [f'["{sender}",{b",".join(part).decode()}]' for part in parts if part]


def parse(payload: str, *, but_from: str = "") -> list[Notice]:
    """The notices of a payload; none of those that `but_from` sent itself. EVERYTHING for a payload of another version."""
    if but_from and payload.startswith(f'["{but_from}"'):
        return []
    try:
        _sender, *told = orjson.loads(payload)
        return [one if isinstance(one, str) else StoreEvent(*cast(list[Any], one)) for one in told]
    except (ValueError, TypeError):
        return [EVERYTHING]


def commit(notices: Iterable[Notice], *, sender: str) -> str:
    """The words that tell the other replicas and commit, in one round trip to PostgreSQL."""
    told = (f"SELECT pg_notify('{CHANNEL}', {_literal(text)})" for text in payloads(notices, sender=sender))
    return "; ".join([*told, "COMMIT"])


def _literal(text: str) -> str:
    # The E form means the same whatever `standard_conforming_strings` says.
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
