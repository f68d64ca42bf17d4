"""Who may call: keys with scopes, asked for on every bind but loopback. Also the first gate: paths that no database could hold.

A key that is given is always checked, also where none is needed: a typo must not look like success.
"""

import ipaddress
import re
import time
from collections.abc import Collection
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from leyden.asgi import Scope, header
from leyden.errors import BadInput, Forbidden, Unauthorized
from leyden.gateway import doors
from leyden.server.context import Context
from leyden.settings import Settings
from leyden.store import keys
from leyden.store.keys import KeyRow
from leyden.store.notices import EVERYTHING, Notice
from leyden.store.opening import open_store

# How long a key that another process revoked may still be let in by one that has just seen it.
REMEMBER_S = 5.0
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/v1/agl/health"})
ADMIN_PATHS = ("/api/keys", "/api/retention", "/api/db", "/api/import", "/api/gateway/config")
READ_BY_POST = frozenset(
    {"/v1/agl/rollouts/search", "/v1/agl/spans/search", "/v1/agl/workers/search", "/api/analyze"}
)
SEARCH_ATTEMPTS = re.compile(r"/v1/agl/rollouts/[^/]+/attempts/search")
# Own prices decide what everybody's calls cost.
ADMIN_PUTS = ("/api/prices",)
INGEST_PATHS = ("/v1/traces", "/v1/logs", "/v1/metrics", "/v1/agl/spans", "/api/runs", "/api/scores")


class Caller(NamedTuple):
    """Who calls: the project it works in, what it may do, and the row of its key with its limits; None without a key."""

    project: str
    scopes: frozenset[str]
    key: KeyRow | None = None


ANYONE = Caller("default", frozenset(keys.SCOPES))


def is_loopback(host: str) -> bool:
    """Whether a bind address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def needs_keys(settings: Settings) -> bool:
    """Whether a caller without a key is turned away."""
    return settings.require_keys or not (is_loopback(settings.host) or settings.open_bind)


def check_bind(settings: Settings) -> None:
    """Refuse to serve other machines while nobody has a key. Raises Forbidden that says how to make one."""
    if not needs_keys(settings):
        return
    store = open_store(settings)
    try:
        with store.database.read() as tx:
            if keys.exist(tx):
                return
    finally:
        store.close()
    raise Forbidden(
        f"{settings.host} can be reached from other machines and no key exists",
        hint="make one with `leyden keys create --name me --scope admin`, or set LEYDEN_OPEN_BIND=1 to serve without keys",
    )


def scope_needed(method: str, path: str) -> str:
    """The scope a request needs: read, ingest, run (queue, attempts, resources), gateway (calling models) or admin (keys, the
    database, own prices, deleting, importing an export)."""
    if doors.find(method, path) is not None:
        return "gateway"
    if path.startswith(ADMIN_PATHS) or method == "DELETE" or (method == "PUT" and path in ADMIN_PUTS):
        return "admin"
    if method in ("GET", "HEAD", "OPTIONS") or path in READ_BY_POST or SEARCH_ATTEMPTS.fullmatch(path):
        return "read"
    if path.startswith(INGEST_PATHS) or path == "/api/rollouts":
        return "ingest"
    return "run"


def may(caller: Caller, needed: str) -> bool:
    """Whether a caller has a scope: its own, or one that contains it. Who may run agents may also call models."""
    has = caller.scopes
    return needed in has or "admin" in has or (needed == "gateway" and "run" in has)


class Guard:
    """Finds out who calls and refuses who may not."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asks = needs_keys(context.settings)
        self._seen: dict[str, tuple[float, Caller | None]] = {}
        context.store.writer.listeners.append(self._changed)

    async def caller(self, scope: Scope) -> Caller:
        """Who sends this request. Raises Unauthorized, Forbidden, BadInput."""
        path: str = scope["path"]
        if "\x00" in path:
            raise BadInput("The path holds a NUL character")
        secret = _secret(scope)
        if secret is None:
            if self._asks and path not in OPEN_PATHS:
                raise Unauthorized(
                    "This server asks for a key",
                    hint="send the header `Authorization: Bearer lk_…`; `leyden keys create` makes one",
                )
            return ANYONE
        caller = await self._check(secret)
        if caller is None:
            raise Unauthorized(
                "Nobody issued this key, or it was revoked", hint="`leyden keys list` shows what exists"
            )
        if caller.key is not None and caller.key.is_expired(time.time()):
            raise Unauthorized(
                f"The key {caller.key.id} has expired", hint="`leyden keys create` makes another"
            )
        needed = scope_needed(scope["method"], path)
        if not may(caller, needed):
            raise Forbidden(
                f"This key lacks the scope {needed!r}", hint=f"it has: {', '.join(sorted(caller.scopes))}"
            )
        return caller

    async def _check(self, secret: str) -> Caller | None:
        digest = keys.hashed(secret)
        seen = self._seen.get(digest)
        if seen is not None and time.monotonic() - seen[0] < REMEMBER_S:
            return seen[1]
        caller = await run_in_threadpool(self._look_up, secret)
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[digest] = (time.monotonic(), caller)
        return caller

    def _changed(self, names: Collection[Notice]) -> None:
        if keys.CHANGED in names or EVERYTHING in names:
            self._seen.clear()

    def _look_up(self, secret: str) -> Caller | None:
        with self._context.store.database.read() as tx:
            row = keys.find(tx, secret)
        return Caller(row.project, frozenset(row.scopes), row) if row is not None else None


def _secret(scope: Scope) -> str | None:
    """The key as given: a bearer token, `x-api-key` or, by Azure's clients, `api-key`. A token of another kind (an application's own)
    is not ours to judge."""
    given = header(scope, b"authorization")
    bearer = given[7:].strip() if given[:7].lower() == "bearer " else ""
    tokens = (bearer, header(scope, b"x-api-key"), header(scope, b"api-key"))
    return next((token for token in tokens if token.startswith("lk_")), None)
