"""A project's own prices, on every database."""

import pytest

from leyden.errors import BadInput, NotFound
from leyden.ingest.prices import Rates
from leyden.store import prices
from leyden.store.opening import Store


def put(store: Store, pattern: str, project: str = "default", **rates: float) -> None:
    store.writer.run(lambda tx: prices.put(tx, pattern, dict(rates), project=project, now=1.0))


def test_a_price_holds_in_its_project_until_it_is_deleted(store: Store) -> None:
    put(store, "house/*", input=1, output=2)
    put(store, "house/*", input=3)
    put(store, "a", project="other", call=0.5)
    with store.database.read() as tx:
        assert [(row.pattern, row.rates) for row in prices.query(tx, project="default")] == [
            ("house/*", {"input": 3.0})
        ]
        lists = prices.overrides(tx)
    assert lists["default"].find("house", "m") == Rates(3, 3, 3, 3, None, None, 3, None)
    assert lists["other"].find(None, "a") == Rates(call=0.5)
    store.writer.run(lambda tx: prices.delete(tx, "house/*", project="default"))
    with store.database.read() as tx:
        assert prices.query(tx, project="default") == []
    with pytest.raises(NotFound):
        store.writer.run(lambda tx: prices.delete(tx, "a", project="default"))


@pytest.mark.parametrize("pattern", ["", "a\0b", "\ud800", "x" * 301])
def test_a_pattern_that_names_no_model_is_refused(store: Store, pattern: str) -> None:
    with pytest.raises(BadInput):
        put(store, pattern, input=1)
