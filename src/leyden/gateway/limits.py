"""What a key may still use: models, calls and tokens per minute, calls at once, money per day and per rollout.

Promises
1. In any stretch of time a key makes at most a minute's calls plus those of the time itself (a token bucket that holds a
   minute), and never more at once than it may. Tokens likewise: guessed before a call, put right after it.
2. What a call may cost is reserved before it leaves and given back however it ends: calls at once spend at most what
   is left of a budget plus, each, what it cost beyond its guess.
3. A call whose cost nobody knows counts for no budget.

Rates and concurrency hold per process: n replicas let through up to n times as much. Budgets hold across processes and
restarts: what the store says is read again every `REREAD_S`, so replicas may together exceed one by what they spend in that time.

Pure: the time is passed in, and the store is a function. One event loop or thread at a time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from leyden.errors import BudgetSpent, Forbidden, ModelNotAllowed, RateLimited, Unauthorized
from leyden.gateway.call import Call
from leyden.ingest.prices import DAY_S
from leyden.ingest.usage import Usage
from leyden.store.keys import KeyRow
from leyden.types import KeyLimits

REREAD_S = 5.0
# What an answer is guessed to be long when the request does not bound it, in tokens.
OUTPUT_TOKENS = 1024
BYTES_PER_TOKEN = 4
_BOUNDS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample")
# From so many accounts or keys on, those that stand still are forgotten: the store knows the ones, and the others' minute is over.
MANY = 10_000
MINUTE_S = 60


class Account(NamedTuple):
    """Whose money: of a key on a day (since 1970, UTC; `id` is the key's), or of a rollout (`day` None)."""

    project: str
    id: str
    day: int | None


Read = Callable[[Account], float]
"""What the store knows to be spent of an account, USD."""
Price = Callable[[Call, Usage], float | None]
"""What a call with so many tokens costs, USD; None when nobody knows."""


def guess(call: Call) -> Usage:
    """The tokens that a call may use: a quarter of its bytes in, and out what it asks for at most."""
    asked = (call.asked.get(name) for name in _BOUNDS)
    bounds = [n for n in asked if isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**31]
    output = (
        0
        if call.door in ("embeddings", "count_tokens", "models", "other")
        else min(bounds, default=OUTPUT_TOKENS)
    )
    return Usage(input=len(call.body) // BYTES_PER_TOKEN, output=output)


@dataclass(slots=True)
class _Bucket:
    """Holds up to a minute's worth; may owe when a call used more than was guessed."""

    level: float
    filled_at: float

    def fill(self, per_minute: float, now: float) -> None:
        """Bring it up to now; a clock that goes back adds nothing."""
        passed = max(0.0, now - self.filled_at)
        self.level = min(per_minute, self.level + passed * per_minute / MINUTE_S)
        self.filled_at = now

    def wait_s(self, wanted: float, per_minute: float) -> float:
        """How long until `wanted` is in it; what is more than a minute's worth asks for a full one."""
        return max(0.0, (min(wanted, per_minute) - self.level) * MINUTE_S / per_minute)


@dataclass(slots=True)
class _Purse:
    """What is spent of an account and what calls under way have reserved, USD."""

    spent: float
    reserved: float
    read_at: float
    calls: int = 0


@dataclass(slots=True)
class _Use:
    """What a key uses now."""

    limits: KeyLimits
    calls: _Bucket
    tokens: _Bucket
    in_flight: int = 0

    def fill(self, now: float) -> None:
        """Bring both buckets up to now."""
        self.calls.fill(self.limits.requests_per_minute or 0, now)
        self.tokens.fill(self.limits.tokens_per_minute or 0, now)

    def is_new(self, now: float) -> bool:
        """Whether forgetting it changes nothing: no call is under way, and both buckets are full."""
        self.fill(now)
        return not self.in_flight and (self.calls.level, self.tokens.level) == _minute(self.limits)


def _minute(limits: KeyLimits) -> tuple[float, float]:
    """Calls and tokens that full buckets hold; 0 for what is not limited."""
    return limits.requests_per_minute or 0, limits.tokens_per_minute or 0


class Lease:
    """The right to make one call. Its place among the calls under way is free once it ends; its tokens and money are settled once they are
    counted, which may be later. Settle it, or leave its `with` block: what it holds is given back once, whatever happens."""

    __slots__ = ("_has_place", "_is_open", "_purses", "_tokens", "_usd", "_use")

    def __init__(self, use: "_Use | None", purses: "list[_Purse]", *, tokens: int, usd: float) -> None:
        self._use, self._purses = use, purses
        self._tokens, self._usd = tokens, usd
        self._is_open = self._has_place = True

    def end(self) -> None:
        """The call is over, whatever it cost."""
        if self._has_place and self._use is not None:
            self._use.in_flight -= 1
        self._has_place = False

    def settle(self, usage: Usage | None, cost_usd: float | None) -> None:
        """The call is over and counted. usage None: nobody counted its tokens, and the guess stands; cost None: unknown, counts as nothing."""
        if not self._is_open:
            return
        self._is_open = False
        self.end()
        if self._use is not None and usage is not None and self._use.limits.tokens_per_minute is not None:
            self._use.tokens.level += self._tokens - usage.total
        for purse in self._purses:
            purse.calls -= 1
            purse.reserved = purse.reserved - self._usd if purse.calls else 0.0
            purse.spent += cost_usd or 0.0

    def cancel(self) -> None:
        """The call was never made: its tokens come back too."""
        self.settle(Usage(), 0.0)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *exc: object) -> None:
        self.settle(None, None)


class Limits:
    """Holds every key to its limits; one per process.

    read: the store's word about an account; called by `check` unless `learn` was called for it in the last `reread_s`.
    """

    def __init__(self, *, read: Read, price: Price, reread_s: float = REREAD_S) -> None:
        self._read, self._price, self._reread_s = read, price, reread_s
        self._uses: dict[str, _Use] = {}
        self._purses: dict[Account, _Purse] = {}
        self._forget_at = MANY

    def check(self, call: Call, key: KeyRow | None, now: float) -> Lease:
        """Let a call pass, holding what it may use, or refuse it. now: unix seconds.

        Raises Unauthorized (expired), Forbidden (another rollout), ModelNotAllowed, BudgetSpent, RateLimited.
        """
        if key is None:
            return Lease(None, [], tokens=0, usd=0.0)
        _check_rights(call, key, now)
        guessed = guess(call)
        accounts = accounts_of(call, key, now)
        usd = (self._price(call, guessed) or 0.0) if accounts else 0.0
        for account, budget in accounts.items():
            _check_budget(self._purse(account, now), account, budget)
        use = self._use(key, now)
        if use is not None:
            _check_rates(use, guessed.total, key)
            _take(use, guessed.total)
        purses = [self._purses[account] for account in accounts]
        for purse in purses:
            purse.reserved += usd
            purse.calls += 1
        return Lease(use, purses, tokens=guessed.total, usd=usd)

    def stale(self, call: Call, key: KeyRow | None, now: float) -> list[Account]:
        """The accounts that `check` would ask the store about: for a caller who must not wait for it, and hands it to `learn`."""
        if key is None:
            return []
        return [account for account in accounts_of(call, key, now) if self._is_stale(account, now)]

    def learn(self, account: Account, spent_usd: float, now: float) -> None:
        """What the store says about an account. Never less than was spent through here, which may not be stored yet."""
        purse = self._purses.get(account)
        if purse is None:
            self._tidy(now)
            self._purses[account] = _Purse(spent_usd, 0.0, now)
        else:
            purse.spent = max(purse.spent, spent_usd)
            purse.read_at = now

    def knows(self, account: Account) -> bool:
        """Whether anything was learnt of an account: while the store is away that, and what was spent through here since, has to do."""
        return account in self._purses

    def _is_stale(self, account: Account, now: float) -> bool:
        purse = self._purses.get(account)
        return purse is None or not 0 <= now - purse.read_at < self._reread_s

    def _purse(self, account: Account, now: float) -> _Purse:
        if self._is_stale(account, now):
            self.learn(account, self._read(account), now)
        return self._purses[account]

    def _use(self, key: KeyRow, now: float) -> _Use | None:
        """What a key uses, brought up to now; None for one whose rate and concurrency are not limited."""
        limits = key.limits
        if (
            limits.requests_per_minute is None
            and limits.tokens_per_minute is None
            and limits.concurrency is None
        ):
            return None
        use = self._uses.get(key.id)
        if use is None:
            self._tidy(now)
            calls, tokens = _minute(limits)
            use = self._uses[key.id] = _Use(limits, _Bucket(calls, now), _Bucket(tokens, now))
        use.fill(now)
        return use

    def _tidy(self, now: float) -> None:
        if len(self._purses) + len(self._uses) < self._forget_at:
            return
        idle = now - MINUTE_S - self._reread_s
        self._purses = {a: p for a, p in self._purses.items() if p.calls or p.read_at > idle}
        self._uses = {k: use for k, use in self._uses.items() if not use.is_new(now)}
        self._forget_at = max(MANY, 2 * (len(self._purses) + len(self._uses)))


def _check_rates(use: _Use, tokens: int, key: KeyRow) -> None:
    limits = use.limits
    if limits.concurrency is not None and use.in_flight >= limits.concurrency:
        raise RateLimited(
            f"The key {key.id} has {use.in_flight} calls under way and may have {limits.concurrency}",
            hint="wait for one of them to end",
        )
    for bucket, wanted, most, what in (
        (use.calls, 1, limits.requests_per_minute, "calls"),
        (use.tokens, tokens, limits.tokens_per_minute, "tokens"),
    ):
        if most is not None and (wait_s := bucket.wait_s(wanted, most)) > 0:
            raise RateLimited(
                f"The key {key.id} has used its {most} {what} per minute",
                hint=f"try again in {math.ceil(wait_s)} s",
                retry_after_s=wait_s,
            )


def _take(use: _Use, tokens: int) -> None:
    use.in_flight += 1
    if use.limits.requests_per_minute is not None:
        use.calls.level -= 1
    if use.limits.tokens_per_minute is not None:
        use.tokens.level -= tokens


def accounts_of(call: Call, key: KeyRow, now: float) -> dict[Account, float]:
    """The budgets that a call draws on, USD by account."""
    found: dict[Account, float] = {}
    limits, rollout_id = key.limits, call.identity.rollout_id or key.limits.rollout_id
    if limits.usd_per_day is not None:
        found[Account(key.project, key.id, int(now // DAY_S))] = limits.usd_per_day
    if limits.usd_per_rollout is not None and rollout_id is not None:
        found[Account(key.project, rollout_id, None)] = limits.usd_per_rollout
    return found


def _check_rights(call: Call, key: KeyRow, now: float) -> None:
    limits, identity = key.limits, call.identity
    if key.is_expired(now):
        raise Unauthorized(f"The key {key.id} has expired", hint="`leyden keys create` makes another")
    named: tuple[tuple[str, Any, Any], ...] = (
        ("rollout", limits.rollout_id, identity.rollout_id),
        ("attempt", limits.attempt_id, identity.attempt_id),
    )
    for noun, own, given in named:
        if own is not None and given is not None and own != given:
            raise Forbidden(
                f"The key {key.id} is for {noun} {own} and the call is for {given}",
                hint="send it to the address of its own rollout, or to one that names none",
            )
    if (call.door != "models" or call.model) and not may_call(call.model, limits):
        what = (
            f"may not call {call.model!r}"
            if call.model
            else "is for some models only, and this call names none"
        )
        raise ModelNotAllowed(f"The key {key.id} {what}", hint=f"it may call: {', '.join(limits.models)}")


def may_call(model: str, limits: KeyLimits) -> bool:
    """Whether a key with these limits may call a model, by the name that the client asks for."""
    return not limits.models or any(fnmatchcase(model.lower(), each.lower()) for each in limits.models)


def _check_budget(purse: _Purse, account: Account, budget: float) -> None:
    if purse.spent >= budget:
        of = f"rollout {account.id}" if account.day is None else f"key {account.id} today"
        later = "ask for more" if account.day is None else "a new day begins at midnight UTC"
        raise BudgetSpent(f"The {budget:g} USD for {of} are spent ({purse.spent:.4g})", hint=later)
    if purse.spent + purse.reserved >= budget:
        raise RateLimited(
            f"What is left of {budget:g} USD is reserved for {purse.calls} calls under way",
            hint="wait for one of them to end",
        )
