"""Payloads by span, wherever they lie."""

from collections.abc import Sequence

from leyden.store import tables
from leyden.store.engine import Tx

p = tables.span_payload


def by_id(tx: Tx, rows: Sequence[tuple[int, str]]) -> dict[int, tuple[bytes, str]]:
    """Payload and encoding of spans, each given as (row id, rollout id). A span deleted meanwhile is left out."""
    found = tx.rows_by_id([p.c.id, p.c.payload, p.c.encoding], [row[0] for row in rows])
    return {row[0]: row[1:] for row in found}
