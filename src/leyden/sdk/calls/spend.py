"""Calls about what agents' calls through the gateway cost."""

from typing import Literal

from pydantic import BaseModel

from leyden.sdk.calls.base import API, Calls, read

CostDimension = Literal["key", "agent", "operation", "provider", "model", "day"]


class Cost(BaseModel):
    """What calls add up to. Tokens are in buckets that do not overlap.

    cost_usd: None where none is known, which is not 0; a lower bound while `unpriced_calls` is above 0.
    """

    value: str
    name: str | None = None  # of a key
    calls: int
    errors: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    reasoning_tokens: int
    audio_input_tokens: int
    audio_output_tokens: int
    cost_usd: float | None
    unpriced_calls: int


class Costs(BaseModel):
    """Groups, the dearest first, or by day the newest. `since` and `until` are the days that were read, in unix seconds."""

    by: CostDimension
    since: float
    until: float
    total: Cost
    groups: list[Cost]


class SpendCalls(Calls):
    """Ask what was spent."""

    def costs(
        self, *, by: CostDimension = "model", since: float | None = None, until: float | None = None
    ) -> Costs:
        """What calls through the gateway cost on the days (UTC) from `since` to `until`, unix seconds; by default the last 30."""
        params = {"by": by, "since": since, "until": until}
        return read(Costs, self.request("GET", f"{API}/costs", params=params))
