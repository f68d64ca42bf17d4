"""Whose call it is: what the path, a key, the headers and the body say, in that order. Pure.

A call that names a rollout belongs to it. One that names only a session, or a trace, belongs to a rollout of that session or trace; all
calls of one session have one trace. One that names nothing joins the session of its key, which begins anew after a quiet time.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from leyden.errors import BadInput
from leyden.gateway.call import Identity
from leyden.gateway.doors import Address
from leyden.ingest.shapes import is_object

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
# Claude Code names its session at the end of the user id it sends.
_CLAUDE_SESSION = re.compile(r"session_([0-9a-f-]{36})")
_ID = re.compile(r"[^\x00-\x1f\x7f]{1,256}")

ROLLOUT = (b"x-leyden-rollout", b"x-rollout-id")
ATTEMPT = (b"x-leyden-attempt", b"x-attempt-id")
# Claude Code's, opencode's, Codex's.
SESSION = (b"x-leyden-session", b"x-claude-code-session-id", b"x-session-id", b"session-id", b"session_id")
_SESSIONS = 10_000


def attempt_of(rollout_id: str) -> str:
    """The attempt of a rollout that the gateway itself began."""
    return f"at-{_digest('attempt', rollout_id)[:8]}"


def own_rollout(project: str, named: str) -> str:
    """The rollout of a project for calls that name one which cannot take them: another project's, or one without an attempt."""
    return f"ro-{_digest('own', project, named)}"


def trace_of(rollout_id: str, attempt_id: str) -> str:
    """The trace of all calls of an attempt that name none themselves: 32 hex digits."""
    return _digest("trace", rollout_id, attempt_id)


def _digest(*parts: str) -> str:
    return blake2b("\x00".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()


class Identities:
    """Finds whose calls are. Remembers when each session without a name was last heard of, and nothing else."""

    def __init__(self, *, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._unnamed: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def of(
        self,
        address: Address,
        headers: Mapping[bytes, bytes],
        asked: Mapping[str, Any],
        *,
        project: str,
        key_id: str | None = None,
        key_rollout: tuple[str, str | None] | None = None,
    ) -> Identity:
        """The identity of one call. headers: by lower-case name. key_rollout: what a per-rollout key is bound to.

        Raises BadInput for an id in the path or in a header that cannot be one.
        """
        trace_id, parent_id = _traceparent(headers)
        session = _session(headers, asked)
        mode = address.mode or _header(headers, (b"x-leyden-mode",))
        if address.rollout_id is not None:
            rollout_id = _checked(address.rollout_id, "the path")
            attempt_id, source = _checked(address.attempt_id or "", "the path"), "path"
        elif key_rollout is not None:
            (rollout_id, attempt_id), source = key_rollout, "key"
        elif named := _header(headers, ROLLOUT) or _metadata(asked, "leyden_rollout"):
            rollout_id, source = named, "header"
            attempt_id = _header(headers, ATTEMPT) or _metadata(asked, "leyden_attempt")
        elif session is not None:
            rollout_id, source = f"ro-{_digest('session', project, session)}", "session"
            attempt_id = attempt_of(rollout_id)
        elif trace_id is not None:
            # The rollout that the collector gives the same trace.
            rollout_id, attempt_id, source = f"ro-{trace_id}", f"at-{trace_id[:8]}", "traceparent"
        else:
            rollout_id, source = self._unnamed_session(project, key_id), "none"
            attempt_id = attempt_of(rollout_id)
        return Identity(project, rollout_id, attempt_id, trace_id, parent_id, session, source, mode)

    def _unnamed_session(self, project: str, key_id: str | None) -> str:
        who, now = f"{project}\x00{key_id or ''}", time.monotonic()
        seen, rollout_id = self._unnamed.get(who, (0.0, ""))
        if not rollout_id or now - seen > self._quiet_s:
            rollout_id = f"ro-{_digest('unnamed', who, str(time.time_ns()))}"
        self._unnamed[who] = (now, rollout_id)
        self._unnamed.move_to_end(who)
        if len(self._unnamed) > _SESSIONS:
            self._unnamed.popitem(last=False)
        return rollout_id


def _header(headers: Mapping[bytes, bytes], names: tuple[bytes, ...]) -> str | None:
    for name in names:
        if value := headers.get(name):
            return _checked(value.decode("latin-1").strip(), name.decode()) or None
    return None


def _checked(value: str, where: str) -> str:
    """An id as somebody named it. Raises BadInput for one that nothing can be recorded under: elsewhere it would be somebody else's."""
    if value and not _ID.fullmatch(value):
        raise BadInput(
            f"The id in {where} cannot be one: {value[:40]!r}",
            hint="use 1 to 256 characters without control characters",
        )
    return value


def _traceparent(headers: Mapping[bytes, bytes]) -> tuple[str | None, str | None]:
    found = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b"").decode("latin-1").strip().lower())
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return None, None
    return found[1], found[2]


def _metadata(asked: Mapping[str, Any], name: str) -> str | None:
    metadata = asked.get("metadata")
    value = metadata.get(name) if is_object(metadata) else None
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _session(headers: Mapping[bytes, bytes], asked: Mapping[str, Any]) -> str | None:
    named = _header(headers, SESSION) or _metadata(asked, "session_id")
    if named is not None:
        return named
    user_id = _metadata(asked, "user_id")
    if user_id is not None:
        found = _CLAUDE_SESSION.search(user_id)
        return found[1] if found else user_id
    user = asked.get("user")
    return user if isinstance(user, str) and _ID.fullmatch(user) else None
