"""A project's own prices, which win over the list: kept as JSON, handed out ready for `ingest/prices.py`."""

from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from leyden.errors import BadInput, NotFound
from leyden.ingest.prices import Overrides, Rates, rates_of
from leyden.ingest.text import scrubbed
from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.sql import Statement

o = tables.price_override
bind = sa.bindparam
CHANGED = "prices"  # the notice that some project prices differently from now on
PATTERN_CHARS = 300


class PriceOverride(NamedTuple):
    """A price of one's own. pattern: a model, "provider/model", or a glob of either. rates: as they were given."""

    project: str
    pattern: str
    rates: dict[str, float]
    create_time: float


def _put(insert: Any) -> Any:
    names = [column.name for column in o.columns]
    row = insert(o).values({name: bind(name) for name in names})
    changed = {name: row.excluded[name] for name in ("rates", "create_time")}
    return row.on_conflict_do_update(index_elements=["project", "pattern"], set_=changed)


PUT = Statement(_put)


def put(tx: Tx, pattern: str, rates: dict[str, Any], *, project: str, now: float) -> PriceOverride:
    """Set the price of what a pattern names, instead of what it was. Raises BadInput."""
    rates_of(rates)
    if not pattern or len(pattern) > PATTERN_CHARS or scrubbed(pattern) != pattern:
        raise BadInput(
            "This pattern names no model", hint=f"write 1 to {PATTERN_CHARS} characters, such as 'ollama/*'"
        )
    row = PriceOverride(project, pattern, {name: float(rate) for name, rate in rates.items()}, now)
    tx.hot(PUT, **{**row._asdict(), "rates": orjson.dumps(row.rates).decode()})
    tx.notices.add(CHANGED)
    return row


def query(tx: Tx, *, project: str | None = None) -> list[PriceOverride]:
    """The prices of a project, or of all of them, by pattern."""
    where = [o.c.project == project] if project is not None else []
    rows = tx.all(sa.select(o).where(*where).order_by(o.c.project, o.c.pattern))
    return [PriceOverride(row.project, row.pattern, orjson.loads(row.rates), row.create_time) for row in rows]


def delete(tx: Tx, pattern: str, *, project: str) -> None:
    """Price by the list again. Raises NotFound."""
    if not tx.run(sa.delete(o).where(o.c.project == project, o.c.pattern == pattern)):
        raise NotFound(f"No price is set for {pattern!r}", hint="`leyden costs prices list` shows them")
    tx.notices.add(CHANGED)


def overrides(tx: Tx) -> dict[str, Overrides]:
    """What every project that has prices of its own prices by."""
    found: dict[str, dict[str, Rates]] = {}
    for row in query(tx):
        found.setdefault(row.project, {})[row.pattern] = rates_of(row.rates)
    return {project: Overrides(rates) for project, rates in found.items()}
