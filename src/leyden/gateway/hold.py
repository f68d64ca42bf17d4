"""Pause, drain, resume: how a trainer changes weights under running agents. One event loop, no I/O.

While paused, new calls wait, up to a number and a time; what does not fit is turned away with a time to come back. Calls that were let
in before go on: `drained` waits for the last of them. Each call is stamped with the policy version that was current when it was let
in.
"""

import asyncio
import time
from dataclasses import dataclass, field

from leyden.errors import LeydenError, RateLimited, StoreBusy

RETRY_AFTER_S = 5.0


def stopping() -> LeydenError:
    """What a call is told that the server cannot wait for any longer."""
    return StoreBusy("The server is stopping", hint="try again in a second")


@dataclass
class State:
    """What the gateway does now. waiting and in_flight count calls; since: unix seconds, None when it is not paused."""

    is_paused: bool
    reason: str | None
    since: float | None
    in_flight: int
    waiting: int
    policy_version: str | None


@dataclass
class Hold:
    """limit: calls that may wait; seconds: how long each."""

    limit: int = 1024
    seconds: float = 600.0
    in_flight: int = 0
    waiting: int = 0
    policy_version: str | None = None
    _reason: str | None = None
    _since: float | None = None
    _open: asyncio.Event | None = None
    _is_stopping: bool = False
    _idle: list["asyncio.Future[None]"] = field(default_factory=list["asyncio.Future[None]"])

    @property
    def is_paused(self) -> bool:
        """Whether new calls wait."""
        return self._open is not None

    def pause(self, reason: str | None = None) -> None:
        """Let nobody in from now on."""
        if self._open is None:
            self._open, self._since = asyncio.Event(), time.time()
        self._reason = reason

    def resume(self, policy_version: str | None = None) -> None:
        """Let everybody in, from now on with this policy version when one is given."""
        if policy_version is not None:
            self.policy_version = policy_version
        if self._open is not None:
            self._open.set()
        self._open = self._since = self._reason = None

    def stop(self) -> None:
        """Turn away who waits and who comes: the server ends."""
        self._is_stopping = True
        self.resume()

    async def enter(self) -> str | None:
        """Wait until calls are let in; the policy version for this one. Every success ends with `leave`.

        Raises RateLimited, and StoreBusy when the server ends.
        """
        while self._open is not None:  # it may be paused again before who waited is awake
            await self._wait(self._open)
        if self._is_stopping:
            raise stopping()
        self.in_flight += 1
        return self.policy_version

    def leave(self) -> None:
        """A call is over."""
        self.in_flight -= 1
        if not self.in_flight:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no call is in flight; False when some still are after the time."""
        if not self.in_flight:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            return False
        return True

    def state(self) -> State:
        """For people and trainers."""
        return State(
            self.is_paused,
            self._reason,
            self._since,
            self.in_flight,
            self.waiting,
            self.policy_version,
        )

    async def _wait(self, opened: asyncio.Event) -> None:
        if self.waiting >= self.limit:
            raise RateLimited(
                f"The gateway is paused and {self.waiting} calls already wait", retry_after_s=RETRY_AFTER_S
            )
        self.waiting += 1
        try:
            await asyncio.wait_for(opened.wait(), self.seconds)
        except TimeoutError:
            raise RateLimited(
                f"The gateway is paused and was not resumed within {self.seconds:g} s",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        finally:
            self.waiting -= 1
