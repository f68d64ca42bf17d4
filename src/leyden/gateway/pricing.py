"""Prices as the recording asks for them: the list, and each project's own prices, read from the store now and then."""

import logging
import time

from leyden.errors import LeydenError
from leyden.ingest.prices import Overrides, Priced, price
from leyden.ingest.usage import Usage
from leyden.store import prices
from leyden.store.opening import Store

log = logging.getLogger("leyden.gateway")

FRESH_S = 5.0


class Pricing:
    """Used by the recording's thread alone: it touches the database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own: dict[str, tuple[float, Overrides]] = {}

    def of(
        self, usage: Usage, *, project: str, provider: str | None, model: str, at_s: float, tier: str | None
    ) -> Priced | None:
        """The price of a call; None when nobody knows it."""
        return price(
            usage, provider=provider, model=model, at_s=at_s, overrides=self._overrides(project), service_tier=tier
        )

    def _overrides(self, project: str) -> Overrides:
        seen, known = self._own.get(project, (0.0, None))
        if known is None or time.monotonic() - seen > FRESH_S:
            try:
                with self._store.database.read() as tx:
                    known = prices.overrides(tx, project=project)
            except LeydenError as error:
                log.warning("a project's own prices could not be read: %s", error.message)
                known = known or Overrides({})
            self._own[project] = (time.monotonic(), known)
        return known
