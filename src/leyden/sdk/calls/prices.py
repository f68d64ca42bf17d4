"""Calls about a project's own prices."""

from collections.abc import Mapping

from pydantic import BaseModel

from leyden.sdk.calls.base import API, Calls, part, read


class PriceOverride(BaseModel):
    """A price of one's own. pattern: a model, "provider/model", or a glob of either.

    rates: USD per million tokens of input, cache_read, cache_write, cache_write_1h, output, reasoning, audio_input, audio_output,
    and `call` in USD per call; what is left out costs what it is a part of.
    """

    pattern: str
    rates: dict[str, float]
    create_time: float


class PriceCalls(Calls):
    """Say what models cost where no list does, or where one's own contract differs."""

    def prices(self) -> list[PriceOverride]:
        """The prices that were set, by pattern."""
        return read(list[PriceOverride], self.request("GET", f"{API}/prices"))

    def set_price(self, pattern: str, rates: Mapping[str, float]) -> PriceOverride:
        """Set the price of what a pattern names, from now on. Needs the scope admin. Raises BadInput."""
        body = {"pattern": pattern, "rates": dict(rates)}
        return read(PriceOverride, self.request("PUT", f"{API}/prices", body=body))

    def delete_price(self, pattern: str) -> None:
        """Price by the list again. Needs the scope admin. Raises NotFound."""
        self.request("DELETE", f"{API}/prices/{part(pattern)}")
