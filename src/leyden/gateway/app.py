"""The gateway as a part of the server: who calls, whether it may, where it goes, and the record of it.

Promises: every model call that came through a door leaves a span, also one that was refused, failed or cancelled; nothing on a call's
path waits for the database but the first look at a key's budget or a deployment. Refuses to know: protocols, HTTP clients, SQL.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import orjson

from leyden.asgi import Receive, Reply, Scope, Send, send_reply
from leyden.errors import LeydenError, NotFound, ServerUnreachable, StoreBusy, StoreError
from leyden.gateway.call import Call, Exchange, Family, Identity, Outcome, Terms
from leyden.gateway.capture import Capture, Done
from leyden.gateway.config import GatewayConfig, Model
from leyden.gateway.conventions import operation_of
from leyden.gateway.deployments import Deployments, Served
from leyden.gateway.doors import Address
from leyden.gateway.forward import Forward, broken
from leyden.gateway.hold import Hold, stopping
from leyden.gateway.identity import own_rollout
from leyden.gateway.incoming import Incoming, family_of
from leyden.gateway.leaving import left
from leyden.gateway.limits import Account, Lease, Limits
from leyden.gateway.models import listed, listing
from leyden.gateway.modes import Modes
from leyden.gateway.outgoing import Settled
from leyden.gateway.prefix import Prefixes
from leyden.gateway.recording import Recorded, recorded
from leyden.gateway.refusals import refusal
from leyden.gateway.routing import Target
from leyden.gateway.translate import estimate_tokens
from leyden.gateway.upstreams import Upstreams
from leyden.ingest.prices import Priced, price
from leyden.ingest.usage import Usage
from leyden.settings import Settings
from leyden.store import spend
from leyden.store.engine import Tx
from leyden.store.keys import KeyRow
from leyden.store.opening import Store
from leyden.store.price_lists import PriceLists
from leyden.store.spend import Spent

log = logging.getLogger("leyden.gateway")

# Kinds of upstream that understand `return_token_ids`.
_TOKEN_KINDS = frozenset({"vllm", "sglang"})
_NS = 10**9
_DAY_NS = 86_400 * _NS


class Gateway:
    """Everything between a door and an upstream. Serves in one event loop; `close` in the same one."""

    def __init__(
        self,
        store: Store,
        config: GatewayConfig,
        settings: Settings,
        *,
        prices: PriceLists,
        capture: Callable[..., Capture] = Capture,
    ) -> None:
        self.config = config
        self.upstreams = Upstreams(config)
        hold = config.gateway.hold
        self.hold = Hold(limit=hold.limit, seconds=hold.seconds)
        self.limits = Limits(read=self._spent, price=self._guessed_price)
        self.capture = capture(store, self._read, also=_spend, quiet_s=settings.quiet_s)
        self._store, self._settings, self._prices = store, settings, prices
        self._incoming = Incoming(quiet_s=settings.quiet_s, max_body_bytes=settings.max_body_bytes)
        self._deployments = Deployments(store)
        self._modes = Modes(store)
        self._prefixes = Prefixes()

    async def close(self) -> None:
        """Let no call in any more, store what was recorded, close the connections."""
        await asyncio.to_thread(self.capture.close)
        await self.upstreams.close()

    async def use(self, config: GatewayConfig) -> None:
        """Another configuration, for calls from now on; those under way end as they began."""
        before, self.upstreams = self.upstreams, Upstreams(config)
        self.config = config
        self.hold.limit, self.hold.seconds = config.gateway.hold.limit, config.gateway.hold.seconds
        await before.retire()

    async def serve(
        self,
        address: Address,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        project: str,
        key: KeyRow | None,
    ) -> int:
        """Serve one call; its HTTP status."""
        try:
            call, fault = await self._incoming.call(address, scope, receive, project=project, key=key)
        except LeydenError as error:
            return await _refuse(send, error, family_of(address, dict(scope["headers"])))
        if fault is not None:
            status = await _refuse(send, fault, call.family)
            self._finish(_ended(call, "refused", status=status, error=fault.message), None)
            return status
        if call.door == "models" and (reply := self._models(call)) is not None:
            await send_reply(send, reply)
            return reply.status
        if call.door == "count_tokens" and (reply := self._counted(call)) is not None:
            await send_reply(send, reply)
            return reply.status
        return await self._forward(call, receive, send, key)

    async def _forward(self, call: Call, receive: Receive, send: Send, key: KeyRow | None) -> int:
        lease: Lease | None = None
        try:
            if self.config.gateway.record.strict and not self.capture.has_room:
                raise StoreBusy("Calls cannot be recorded at the moment, and the gateway is strict about it")
            lease = await self._admit(call, key)
            exchange = await self._let_in(call, receive, send)
        except LeydenError as error:
            status = await _refuse(send, error, call.family)
            exchange = _ended(call, "refused", status=status, error=error.message)
        except asyncio.CancelledError:  # by a server that stops, while the call waited to be let in
            status = await _refuse(send, stopping(), call.family)
            exchange = _ended(call, "refused", status=status, error=stopping().message)
        except Exception:  # a defect of ours; the call must be told, and recorded all the same
            log.exception("a call could not be served")
            status = await _refuse(send, broken(), call.family)
            exchange = _ended(call, "refused", status=status, error=broken().message)
        except BaseException:
            if lease is not None:
                lease.settle(None, None)
            raise
        self._finish(exchange, lease)
        return exchange.status

    async def _let_in(self, call: Call, receive: Receive, send: Send) -> Exchange:
        """Serve a call that may be made, once the gateway is not paused. Raises RateLimited when it stays so."""
        is_in, version = await self._entered(receive)
        if not is_in:
            return _ended(call, "cancelled")
        config, upstreams = self.config, self.upstreams  # another configuration may come meanwhile
        upstreams.enter()
        try:
            served = await self._served(call)
            mode = await self._mode(call)
            forward = Forward(
                upstreams,
                call,
                lambda target: settled(config, target, mode=mode, served=served),
                send,
                config.gateway.record.max_bytes,
                model=None if served is None else served.model,
            )
            exchange = await forward.run(receive)
        finally:
            self.hold.leave()
            await upstreams.leave()
        exchange.terms = terms(config, exchange.upstream)
        exchange.policy_version = version
        exchange.resources = {} if served is None else served.attributes()
        return exchange

    async def _entered(self, receive: Receive) -> tuple[bool, str | None]:
        """Whether a call was let in, and its policy version; False for a client that left while it waited."""
        if not self.hold.is_paused:
            return True, await self.hold.enter()
        entering = asyncio.ensure_future(self.hold.enter())
        leaving = asyncio.ensure_future(left(receive))
        try:
            await asyncio.wait({entering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return (True, entering.result()) if entering.done() else (False, None)
        finally:
            entering.cancel()
            leaving.cancel()

    def _finish(self, exchange: Exchange, lease: Lease | None) -> None:
        if exchange.terms is None:  # it was not let in
            exchange.terms = terms(self.config, None)
        if lease is not None:
            lease.end()
            if exchange.upstream is None:
                lease.cancel()  # it went nowhere
        if operation_of(exchange.call) is not None:
            done = None if lease is None or exchange.call.key_id is None else _settling(lease)
            self.capture.offer(exchange, done)
        elif lease is not None:
            lease.settle(None, None)

    async def _admit(self, call: Call, key: KeyRow | None) -> Lease:
        """Hold a call to its key's limits; what the store has to be asked for is asked off the event loop. Raises as `Limits.check`."""
        now = time.time()
        for account in self.limits.stale(call, key, now):
            try:
                spent_usd = await asyncio.to_thread(self._spent, account)
            except (StoreError, ServerUnreachable) as error:
                if not self.limits.knows(account):
                    raise StoreBusy(
                        "What this key has spent cannot be read at the moment", hint="try again in a second"
                    ) from error
                spent_usd = 0.0  # what is known stands
            self.limits.learn(account, spent_usd, now)
        return self.limits.check(call, key, now)

    def _spent(self, account: Account) -> float:
        with self._store.database.read() as tx:
            if account.day is None:
                ids = (account.id, own_rollout(account.project, account.id))
                return sum(spend.of_rollout(tx, id_, project=account.project) for id_ in ids)
            return spend.of_key(tx, account.id, project=account.project, day=account.day)

    def _guessed_price(self, call: Call, usage: Usage) -> float | None:
        priced = self._priced(call, usage, None, call.model, call.began_ns / _NS, None)
        return None if priced is None else priced.usd

    def _priced(
        self, call: Call, usage: Usage, provider: str | None, model: str, at_s: float, tier: str | None
    ) -> Priced | None:
        own = self._prices.of(call.identity.project)
        return price(usage, provider=provider, model=model, at_s=at_s, overrides=own, service_tier=tier)

    def _models(self, call: Call) -> Reply | None:
        found = listing(self.config, call.family, now=call.began_ns // _NS, only=call.model or None)
        if found is None and not call.model and not self.upstreams.router.lists_models(call.family):
            found = listed([], call.family, now=0)
        return None if found is None else Reply(200, orjson.dumps(found))

    def _counted(self, call: Call) -> Reply | None:
        """An estimate where no upstream counts tokens itself."""
        try:
            plan = self.upstreams.plan(call.model, call.door, family=call.family)
        except LeydenError as error:
            status, headers, body = refusal(error, call.family)
            return Reply(status, body, headers=tuple(headers[1:]))
        if not all(target.needs_translation for target in plan):
            return None
        return Reply(200, orjson.dumps({"input_tokens": estimate_tokens(call.asked)}))

    async def _served(self, call: Call) -> Served | None:
        """What the deployment of the call's alias runs with now."""
        model = self._alias(call.model)
        if model is None or model.deployment is None:
            return None
        which = (call.identity.project, model.deployment, model.system_template)
        try:
            served = self._deployments.fresh(*which)
        except KeyError:
            served = await asyncio.to_thread(self._deployments.look_up, *which)
        return served

    def _alias(self, model: str) -> Model | None:
        router = self.upstreams.router
        try:
            return router.model(router.alias(model)[0])
        except NotFound:
            return None

    async def _mode(self, call: Call) -> str | None:
        """The mode whose parameters are forced: what the call says, else its rollout's."""
        identity = call.identity
        if identity.mode is not None or not self.config.gateway.modes or identity.rollout_id is None:
            return identity.mode
        try:
            return self._modes.known(identity.project, identity.rollout_id)
        except KeyError:
            return await asyncio.to_thread(self._modes.look_up, identity.project, identity.rollout_id)

    def _read(self, exchange: Exchange) -> Recorded:
        """In the capture's thread."""
        call = exchange.call
        told = exchange.terms or Terms()
        shared = None
        if call.asked and call.identity.rollout_id is not None:
            # Two projects may name one rollout, and neither learns what the other asked.
            whose = f"{call.identity.project}\x00{call.identity.rollout_id}"
            shared = self._prefixes.share(whose, call.asked)
        return recorded(
            exchange,
            kind=told.kind,
            price_provider=told.price_provider,
            price=partial(self._priced, call),
            with_content=told.with_content,
            max_bytes=told.max_bytes,
            shared=shared,
        )


async def _refuse(send: Send, error: LeydenError, family: Family) -> int:
    status, headers, body = refusal(error, family)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status


def _ended(call: Call, outcome: Outcome, *, status: int = 0, error: str | None = None) -> Exchange:
    """A call that ended before it went anywhere."""
    return Exchange(
        call=call, outcome=outcome, status=status, upstream=None, upstream_family=call.family, upstream_door=call.door,
        upstream_model=None, tries=0, body=[], encoding="", is_cut=False, first_byte_ns=None, ended_ns=time.time_ns(),
        error=error,
    )  # fmt: skip


def terms(config: GatewayConfig, upstream: str | None) -> Terms:
    """What a configuration says of the record of a call that this upstream answered; None for one that went nowhere."""
    known, record = config.upstreams.get(upstream or ""), config.gateway.record
    kind, seller = ("", None) if known is None else (known.kind, known.price_provider)
    return Terms(kind, seller, record.content == "full", record.max_bytes)


def settled(config: GatewayConfig, target: Target, *, mode: str | None, served: Served | None) -> Settled:
    """What is set in requests to a target: an alias's parameters, over them a deployment's, over them those of the mode."""
    alias, gateway = config.models.get(target.alias), config.gateway
    if alias is None:  # a call that names no model
        return Settled({}, {})
    forced = dict(alias.parameters)
    if served is not None:
        forced |= served.parameters
    for known, parameters in gateway.modes.items():
        if known == mode:
            forced |= parameters
    kind = config.upstreams[target.upstream].kind
    ask = gateway.token_ids == "on" or (gateway.token_ids == "auto" and kind in _TOKEN_KINDS)
    return Settled(alias.defaults, forced, None if served is None else served.system, ask_tokens=ask)


def _settling(lease: Lease) -> Done:
    """Settles a lease in the event loop once its call was read in the capture's thread."""
    loop = asyncio.get_running_loop()

    def done(_: Exchange, found: Recorded | None) -> None:
        counted = (None, None) if found is None else (found.usage, found.usd)
        with suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(lease.settle, *counted)

    return done


def _spend(tx: Tx, calls: Sequence[tuple[Exchange, Recorded]]) -> None:
    """What the calls cost, in the transaction that stores their spans."""
    spend.add(tx, [spent(exchange, found) for exchange, found in calls])


def spent(exchange: Exchange, found: Recorded) -> Spent:
    """A call as the ledger counts it."""
    identity: Identity = exchange.call.identity
    return Spent(
        project=identity.project,
        day=exchange.call.began_ns // _DAY_NS,
        key_id=exchange.call.key_id,
        agent=found.record.agent,
        operation=found.operation,
        provider=found.provider,
        model=found.model,
        is_error=found.record.status == "error",
        usage=found.usage or Usage(),
        usd=found.usd,
        rollout_id=identity.rollout_id,
    )
