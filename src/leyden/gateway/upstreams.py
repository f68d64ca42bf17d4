"""From a model's name to an answer: the targets of a call are tried in order until one does.

Promises: everything that is retried happens before the first byte is handed out; when all fail, the last answer of an upstream is handed
through as it came, and only without one is there an error of ours. Refuses to know: protocols, the store, who calls.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from leyden.errors import BadInput, UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from leyden.gateway import retry
from leyden.gateway.answer import Answer
from leyden.gateway.call import Door, Family
from leyden.gateway.config import GatewayConfig
from leyden.gateway.health import Health
from leyden.gateway.pool import Dropped, Outgoing, Pool
from leyden.gateway.retry import Failure, Step
from leyden.gateway.routing import Router, Target

# An answer that asks for another try is kept in case nothing better comes; larger than this it is no error message.
_KEPT_BYTES = 2**20
_KEPT_S = 5.0

Render = Callable[[Target], Outgoing]


class Try(NamedTuple):
    """One try: where, how it went, how long until that was known. status None: no answer; then error says why."""

    target: Target
    status: int | None
    error: UpstreamError | None
    seconds: float

    @classmethod
    def of(cls, target: Target, came: Answer | UpstreamError, seconds: float) -> "Try":
        """A try that brought this."""
        if isinstance(came, Answer):
            return cls(target, came.status, None, seconds)
        return cls(target, None, came, seconds)


OnTry = Callable[[Try], None]


class Reached:
    """The answer that the client gets, and where it comes from. tries: all of the call, this one included. ends_at: when the time that a
    call may take is over, on the loop's clock."""

    __slots__ = ("_answer", "ends_at", "headers", "status", "target", "tries")

    def __init__(self, target: Target, answer: Answer, tries: int) -> None:
        self.target, self.tries, self._answer = target, tries, answer
        self.status, self.headers = answer.status, answer.headers
        self.ends_at = answer.ends_at

    @property
    def family(self) -> Family:
        """The protocol that the answer is in."""
        return self.target.family

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body in pieces as they arrive; once. Raises UpstreamBroken or UpstreamTimeout, whose `phase` says what was waited for."""
        return self._answer.chunks()

    def abort(self) -> None:
        """The client left: close the connection, so that the upstream stops at once."""
        self._answer.abort()


class Upstreams:
    """All upstreams of one configuration: routes, health, connections. Used from event loops; closed in the one that used it."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """clock: seconds, never going back; what `deadline_s` is counted on. sleep: waits between two tries."""
        self.config, self.router, self.health = config, Router(config), Health(config.gateway.health)
        self.now, self.rng, self.sleep = clock, rng or random.Random(), sleep
        self._pool = Pool(config.upstreams)
        self._calls = 0
        self._is_retired = False

    def enter(self) -> None:
        """A call goes through these from now on, until it leaves."""
        self._calls += 1

    async def leave(self) -> None:
        """A call is over; the last one of a retired configuration closes its connections."""
        self._calls -= 1
        if self._is_retired and not self._calls:
            await self.close()

    async def retire(self) -> None:
        """No further call comes: close as soon as those under way are over."""
        self._is_retired = True
        if not self._calls:
            await self.close()

    def plan(self, model: str, door: Door, *, family: Family, rollout_id: str | None = None) -> list[Target]:
        """Where a call may go now, best place first. Raises NotFound for a model that no alias covers."""
        return self.router.plan(
            model,
            door,
            family=family,
            rollout_id=rollout_id,
            health=self.health,
            rng=self.rng,
            now=self.now(),
        )

    async def open(
        self,
        *,
        plan: Sequence[Target],
        render: Render,
        deadline_s: float | None = None,
        on_try: OnTry | None = None,
    ) -> Reached:
        """Try the targets in order until one answers with the first byte of something that no retry would better.

        render: the request as a target is to get it; one for which it raises BadInput is left out while there are others.
        deadline_s: when to give up, on this object's clock. on_try: told of each try as it ends.
        Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroken when no target answered at all; BadInput; what render raises.
        """
        call = _Opening(self, deadline_s=math.inf if deadline_s is None else deadline_s, on_try=on_try)
        for i, target in enumerate(plan):
            has_next = i + 1 < len(plan)
            try:
                outgoing = render(target)
            except BadInput:
                if has_next or call.tries:
                    continue
                raise
            reached = await call.at(target, outgoing, has_next=has_next)
            if reached is not None:
                return reached
            if call.is_over:
                break
        return call.best()

    async def close(self) -> None:
        """Close all connections of the running loop."""
        await self._pool.close()

    async def ask(
        self, target: Target, outgoing: Outgoing, *, limit_s: float, is_repeat: bool
    ) -> Answer | UpstreamError:
        """One try of at most `limit_s` seconds, which health hears of."""
        name = target.upstream
        self.health.begin(name, now=self.now())
        try:
            answer = await self._pool.ask(target, outgoing, limit_s=limit_s)
        except UpstreamError as error:
            # A kept-alive connection that the server had given up says nothing about the server; a second one does.
            if is_repeat or not isinstance(error, Dropped):
                self.health.failed(name, now=self.now())
            return error
        self._judge(name, answer)
        answer.on_failure = lambda _: self.health.failed(name, now=self.now())
        return answer

    def _judge(self, name: str, answer: Answer) -> None:
        if answer.status >= 500:
            self.health.failed(name, now=self.now())
        elif answer.status != 429:
            self.health.succeeded(name, now=self.now())
        if answer.status in (429, 503, 529):
            seconds = retry.retry_after_s(answer.headers, now=time.time())
            if seconds is not None:
                self.health.rest(name, seconds, now=self.now())


class _Opening:
    """One call while it looks for an answer: how often it tried, and the best that came of it so far."""

    def __init__(self, upstreams: Upstreams, *, deadline_s: float, on_try: OnTry | None) -> None:
        self._of, self._deadline_s, self._on_try = upstreams, deadline_s, on_try
        self._began = upstreams.now()
        self._kept: tuple[Target, Answer] | None = None
        self._error: UpstreamError | None = None
        self.tries = 0
        self.is_over = False

    async def at(self, target: Target, outgoing: Outgoing, *, has_next: bool) -> Reached | None:
        """Try one target until it answers (its last refusal is an answer too), or until it is left without one (None)."""
        tries_here = 0
        while True:
            came = await self._try(target, outgoing, is_repeat=tries_here > 0)
            tries_here += 1
            failure = _failure(came)
            step = self._step(failure, outgoing, tries_here=tries_here, has_next=has_next)
            if isinstance(came, Answer) and step.action == "stop":
                return Reached(target, came, self.tries)
            await self._remember(target, came)
            if step.action != "again":
                self.is_over = step.action == "stop"
                return None
            if step.pause_s:
                await self._of.sleep(step.pause_s)

    def best(self) -> Reached:
        """The last answer that was kept. Raises the last error when no upstream answered."""
        if self._kept is not None:
            return Reached(*self._kept, self.tries)
        raise self._error or UpstreamUnreachable("This call has no target that can serve it")

    async def _try(self, target: Target, outgoing: Outgoing, *, is_repeat: bool) -> Answer | UpstreamError:
        began = self._of.now()
        limit_s = self._deadline_s - began
        if limit_s <= 0:
            return UpstreamTimeout("The time that this call may take is over", None, "total")
        self.tries += 1
        came = await self._of.ask(target, outgoing, limit_s=limit_s, is_repeat=is_repeat)
        if self._on_try is not None:
            self._on_try(Try.of(target, came, self._of.now() - began))
        return came

    def _step(self, failure: Failure | None, outgoing: Outgoing, *, tries_here: int, has_next: bool) -> Step:
        if failure is None or (failure.kind in ("timeout", "broken") and not outgoing.may_repeat):
            return retry.STOP
        now = self._of.now()
        if now >= self._deadline_s:
            return retry.STOP
        return retry.next_step(
            self._of.config.gateway.retry,
            failure,
            tries_here=tries_here,
            has_next=has_next,
            elapsed_s=now - self._began,
            rng=self._of.rng,
        )

    async def _remember(self, target: Target, came: Answer | UpstreamError) -> None:
        if isinstance(came, UpstreamError):
            self._error = came
        elif await came.keep(_KEPT_BYTES, limit_s=_KEPT_S):
            self._kept = target, came


def _failure(came: Answer | UpstreamError) -> Failure | None:
    """Why another try may help; None when what came is what the client gets."""
    if isinstance(came, Answer):
        if not retry.asks_for_another_try(came.status, came.headers):
            return None
        return Failure("status", retry.retry_after_s(came.headers, now=time.time()))
    if isinstance(came, Dropped):
        return Failure("dropped")
    if isinstance(came, UpstreamTimeout):
        return Failure("connect" if came.phase == "connect" else "timeout")
    return Failure("broken" if isinstance(came, UpstreamBroken) else "connect")
