"""Who may call: keys with scopes, asked for on every bind but loopback. Also the first gate: paths that no database could hold.

A key that is given is always checked, also where none is needed: a typo must not look like success. Where none is needed, a request
without one must not come from a stranger's web page.
"""

import asyncio
import ipaddress
import logging
import re
import time
from collections.abc import Collection
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from leyden.asgi import Scope
from leyden.errors import BadInput, Forbidden, StoreBusy, StoreError, Unauthorized
from leyden.gateway import doors
from leyden.server.context import Context
from leyden.server.pages import Pages
from leyden.settings import Settings
from leyden.store import keys
from leyden.store.keys import KeyRow
from leyden.store.notices import EVERYTHING, Notice
from leyden.store.opening import open_store

log = logging.getLogger("leyden.server")

# How long a key that another process revoked may still be let in by one that has just seen it.
REMEMBER_S = 5.0
# How long a key that was good stays good while the store cannot be asked: a model call must not fail because a database restarts.
TRUST_S = 900.0
# How long such a key waits for a store that is slow to say it again.
PATIENCE_S = 1.0
_MOST_KNOWN = 1000
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


class _Known(NamedTuple):
    """What the store said about a key. Steady seconds: `said` when it was asked last and answered, `asked` when it was asked last."""

    caller: Caller | None
    said: float
    asked: float


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
        self._pages = Pages(any_host=context.settings.open_bind)
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[Caller | None]] = {}
        self._revoked = self._told = (
            0.0  # when a key was revoked last, and when one may have been; steady seconds
        )
        self._is_away = False
        context.store.writer.listeners.append(self._changed)

    async def caller(self, scope: Scope) -> Caller:
        """Who sends this request. Raises Unauthorized, Forbidden, BadInput."""
        path: str = scope["path"]
        if "\x00" in path:
            raise BadInput("The path holds a NUL character")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        secret = _secret(headers)
        if secret is None:
            if self._asks and path not in OPEN_PATHS:
                raise Unauthorized(
                    "This server asks for a key",
                    hint="send the header `Authorization: Bearer lk_…`; `leyden keys create` makes one",
                )
            if not self._asks:
                host, origin = headers.get(b"host", b""), headers.get(b"origin", b"")
                self._pages.check(scope["method"], host, origin, listed=self._context.cors_origins)
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
        """Whose key this is. Raises StoreBusy when the store cannot be asked and did not say that it is good lately."""
        digest, now = keys.hashed(secret), time.monotonic()
        known = self._known.get(digest)
        if known is not None and known.said <= self._revoked:
            known = None
        if known is not None and known.asked > self._told and now - known.asked < REMEMBER_S:
            return known.caller
        is_trusted = known is not None and known.caller is not None and now - known.said < TRUST_S
        try:
            asking = asyncio.shield(self._ask(digest, secret))
            return await asyncio.wait_for(asking, PATIENCE_S if is_trusted else None)
        except (StoreError, TimeoutError) as error:
            self._tell_away(error)
            if known is None or not is_trusted or known.said <= self._revoked:
                # Said to whoever sends a key, so it does not say where the database is.
                raise StoreBusy(
                    "The store cannot be asked about this key now", hint="try again in a second"
                ) from error
            self._known[digest] = known._replace(asked=time.monotonic())
            return known.caller

    def _ask(self, digest: str, secret: str) -> "asyncio.Task[Caller | None]":
        """The store, once for all who wait for the same key."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._hear(digest, secret))
            asking.add_done_callback(lambda done: self._heard(digest, done))
        return asking

    async def _hear(self, digest: str, secret: str) -> Caller | None:
        asked = time.monotonic()
        caller = await run_in_threadpool(self._look_up, secret)
        if len(self._known) >= _MOST_KNOWN:
            good = {key: known for key, known in self._known.items() if known.caller is not None}
            self._known = good if len(good) < _MOST_KNOWN else {}
        self._known[digest] = _Known(caller, said=asked, asked=asked)
        self._is_away = False
        return caller

    def _heard(self, digest: str, done: "asyncio.Task[Caller | None]") -> None:
        del self._asking[digest]
        if not done.cancelled():
            done.exception()  # all who waited may have gone on without

    def _tell_away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            log.warning(
                "the store cannot be asked about keys; those it knew in the last %.0f minutes are let in: %s",
                TRUST_S / 60,
                str(error) or "no answer",
            )

    def _changed(self, names: Collection[Notice]) -> None:
        if keys.CHANGED in names:
            self._revoked = time.monotonic()
        elif EVERYTHING in names:
            self._told = time.monotonic()

    def _look_up(self, secret: str) -> Caller | None:
        with self._context.store.database.read() as tx:
            row = keys.find(tx, secret)
        return Caller(row.project, frozenset(row.scopes), row) if row is not None else None


def _secret(headers: dict[bytes, bytes]) -> str | None:
    """The key as given: a bearer token, `x-api-key` or, by Azure's clients, `api-key`. A token of another kind (an application's own)
    is not ours to judge."""
    given = headers.get(b"authorization", b"")
    bearer = given[7:].strip() if given[:7].lower() == b"bearer " else b""
    for token in (bearer, headers.get(b"x-api-key", b""), headers.get(b"api-key", b"")):
        if token.startswith(b"lk_"):
            return token.decode("latin-1")
    return None
