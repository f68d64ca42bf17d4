"""A call that the gateway saw and an SDK reports too is one call, whichever comes first."""

import sqlalchemy as sa

from leyden.ingest.record import GATEWAY, SpanRecord
from leyden.store import deletion, model_calls, rollouts, rollups, spans, tables
from leyden.store.engine import Tx
from leyden.store.model_calls import Seen
from leyden.store.opening import Store
from leyden.store.rollouts import NewRollout
from store.conftest import make_span

NOW = 1_800_000_000.0
START_NS = 1_800_000_000 * 10**9
ANSWER = "chatcmpl-7QyqpwdfhqwajicIEznoc6Q47XAyW"
SEEN = Seen("ro-1", (ANSWER,), START_NS, START_NS + 10**9)


def begin(store: Store) -> None:
    store.writer.run(
        lambda tx: rollouts.start(
            tx,
            NewRollout("1"),
            project="default",
            rollout_id="ro-1",
            attempt_id="at-1",
            worker_id=None,
            now=NOW,
        )
    )


def report(number: int, *, answer: str = ANSWER, **columns: object) -> SpanRecord:
    """A model call as an SDK tells of it: it began a little earlier and ended a little later."""
    return make_span(
        "ro-1", "at-1", number, kind="llm", model="gpt-4o", input_tokens=10, output_tokens=5, cost_usd=0.25, start_ns=START_NS - 1000,
        end_ns=START_NS + 2 * 10**9, payload=b'{"attributes":{"gen_ai.response.id":"%b"}}' % answer.encode(), **columns,
    )  # fmt: skip


def put(store: Store, *records: SpanRecord) -> None:
    store.writer.run(lambda tx: spans.insert(tx, list(records), project="default", now=NOW, quiet_s=900))


def kinds_and_costs(store: Store) -> list[tuple[str, float | None]]:
    s = tables.span.c
    with store.database.read() as tx:
        return [(row.kind, row.cost_usd) for row in tx.all(sa.select(s.kind, s.cost_usd).order_by(s.id))]


def test_what_an_sdk_reports_after_the_gateway_is_no_second_call(store: Store) -> None:
    begin(store)
    put(store, report(1)._replace(source=GATEWAY))
    store.writer.run(lambda tx: model_calls.remember(tx, [SEEN]))
    put(store, report(2), report(3, answer="chatcmpl-another-answer"))
    assert kinds_and_costs(store) == [("llm", 0.25), ("span", None), ("llm", 0.25)]
    with store.database.read() as tx:
        rollup = tables.rollup.c
        sums = tx.first(
            sa.select(sa.func.sum(rollup.input_tokens), sa.func.sum(rollup.cost_nano)).where(
                rollup.grain == rollups.DAY
            )
        )
    assert (int(sums[0]), int(sums[1])) == (20, 500_000_000)


def test_a_call_that_an_sdk_reported_first_is_found_by_the_gateway(store: Store) -> None:
    begin(store)
    put(store, report(1))

    def is_reported(tx: Tx, answer: str) -> bool:
        return model_calls.is_reported(tx, SEEN._replace(response_ids=(answer,)), "at-1")

    with store.database.read() as tx:
        assert is_reported(tx, ANSWER)
        assert not is_reported(tx, "chatcmpl-another-answer")
        assert not is_reported(tx, "1")


def test_what_the_gateway_saw_of_a_rollout_goes_with_it(store: Store) -> None:
    begin(store)
    store.writer.run(lambda tx: model_calls.remember(tx, [SEEN, SEEN, SEEN._replace(rollout_id="ro-2")]))

    def gone(tx: Tx) -> bool:
        return deletion.erase_some(tx, "ro-1", project="default")

    while not store.writer.run(gone):
        pass
    with store.database.read() as tx:
        assert [row[0] for row in tx.all(sa.select(tables.model_call.c.rollout_id))] == ["ro-2"]
