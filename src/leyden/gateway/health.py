"""Which upstreams are left alone for a while: too many failures eject one, a probe brings it back, Retry-After rests it.

Decides from what it is told and the time it is given; keeps nothing for an upstream that never failed. Refuses to know: HTTP, routing.
Used from one event loop: nothing here waits or locks.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from leyden.gateway.config import HealthRules

Standing = Literal["up", "half-open", "ejected", "resting"]
"""up: takes calls. half-open: takes one, as a probe. ejected: failed too often. resting: asked us to wait (Retry-After)."""


@dataclass(slots=True)
class _Record:
    """What happened to one upstream since its first failure."""

    window_began: float
    in_a_row: int = 0
    failures: int = 0
    calls: int = 0
    ejected_until: float | None = None
    ejections: int = 0
    probing_until: float = 0.0
    resting_until: float = 0.0


class Snapshot(NamedTuple):
    """How an upstream that failed lately stands, for metrics. back_s: until it may be called again, 0 when it may."""

    standing: Standing
    failures_in_a_row: int
    ejections: int
    back_s: float


class Health:
    """The records of all upstreams; `now` is always in seconds of one clock that never goes back."""

    def __init__(self, rules: HealthRules) -> None:
        self._rules = rules
        self._records: dict[str, _Record] = {}

    def standing(self, upstream: str, *, now: float) -> Standing:
        """Whether it may be called."""
        record = self._records.get(upstream)
        return "up" if record is None else _standing(record, now)

    def is_available(self, upstream: str, *, now: float) -> bool:
        """Whether a plan may put it in its usual place; False sends it to the end."""
        return self.standing(upstream, now=now) in ("up", "half-open")

    def begin(self, upstream: str, *, now: float) -> None:
        """A call starts. The first one at a half-open upstream is its probe: until it ends, or for `eject_s`, others stay away."""
        record = self._records.get(upstream)
        if record is not None and _standing(record, now) == "half-open":
            record.probing_until = now + self._rules.eject_s

    def succeeded(self, upstream: str, *, now: float) -> None:
        """A call was answered. A probe that succeeds wipes the record."""
        record = self._records.get(upstream)
        if record is None:
            return
        record.in_a_row = 0
        record.calls += 1
        is_over = now - record.window_began > self._rules.window_s and now >= record.resting_until
        if record.ejected_until is not None or is_over:
            del self._records[upstream]

    def failed(self, upstream: str, *, now: float) -> None:
        """A call failed for the upstream's own reasons: no connection, no answer in time, a broken one, a status of 500 or more."""
        record = self._records.setdefault(upstream, _Record(now))
        if now - record.window_began > self._rules.window_s:
            record.window_began, record.failures, record.calls = now, 0, 0
        record.in_a_row += 1
        record.failures += 1
        record.calls += 1
        was_probe = record.probing_until > now
        if was_probe or (self._is_too_much(record) and _standing(record, now) != "ejected"):
            self._eject(record, now)

    def rest(self, upstream: str, seconds: float, *, now: float) -> None:
        """It said Retry-After: leave it alone that long, at most `max_eject_s`."""
        record = self._records.setdefault(upstream, _Record(now))
        record.resting_until = max(record.resting_until, now + min(seconds, self._rules.max_eject_s))

    def snapshot(self, *, now: float) -> dict[str, Snapshot]:
        """Every upstream that has a record."""
        return {
            name: Snapshot(
                _standing(record, now),
                record.in_a_row,
                record.ejections,
                max(0.0, (record.ejected_until or 0.0) - now, record.resting_until - now),
            )
            for name, record in self._records.items()
        }

    def _is_too_much(self, record: _Record) -> bool:
        rules = self._rules
        share_is_high = (
            record.calls >= rules.min_calls and record.failures >= rules.error_share * record.calls
        )
        return record.in_a_row >= rules.failures or share_is_high

    def _eject(self, record: _Record, now: float) -> None:
        rules = self._rules
        record.ejected_until = now + min(rules.eject_s * 2.0**record.ejections, rules.max_eject_s)
        # 2 ** 30 times any pause is over every maximum; counting on would overflow a float one day.
        record.ejections = min(record.ejections + 1, 30)
        record.probing_until = 0.0


def _standing(record: _Record, now: float) -> Standing:
    if now < record.resting_until:
        return "resting"
    if record.ejected_until is None:
        return "up"
    return "ejected" if now < max(record.ejected_until, record.probing_until) else "half-open"
