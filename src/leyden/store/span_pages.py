"""The page that nearly every reader of spans asks for: one rollout's or attempt's spans in sequence order, by prepared statements.

Building and looking up the same two queries costs SQLAlchemy more time than the database takes to answer them.
"""

from typing import Any

import sqlalchemy as sa

from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.query import Paging
from leyden.store.sql import Statement

s = tables.span
t = tables.rollout
bind = sa.bindparam


def _where(of_attempt: bool) -> sa.ColumnElement[bool]:
    # Asked of the rollout once: asked of each span, its row would have to be read to be counted.
    owned = sa.exists().where(t.c.rollout_id == bind("rollout"), t.c.project == bind("project_name"))
    of_rollout = sa.and_(s.c.rollout_id == bind("rollout"), owned)
    return sa.and_(of_rollout, s.c.attempt_id == bind("attempt")) if of_attempt else of_rollout


def _page(of_attempt: bool) -> Statement:
    columns = (s.c.id, s.c.attempt_id, s.c.sequence_id)
    return Statement(
        lambda _: (
            sa.select(*columns)
            .where(_where(of_attempt))
            .order_by(s.c.sequence_id, s.c.id)
            .limit(bind("most", type_=sa.BigInteger))
            .offset(bind("skipped", type_=sa.BigInteger))
        )
    )


def _count(of_attempt: bool) -> Statement:
    return Statement(lambda _: sa.select(sa.func.count()).select_from(s).where(_where(of_attempt)))


PAGES = (_page(False), _page(True))
COUNTS = (_count(False), _count(True))


def is_common(attempt_id: str | None, paging: Paging, *, has_conditions: bool) -> bool:
    """Whether a page can be had here: no conditions but rollout and attempt, in sequence order."""
    in_order = paging.sort_by in (None, "sequence_id") and paging.sort_order == "asc"
    return in_order and not has_conditions and attempt_id != "latest"


def in_sequence(
    tx: Tx, rollout_id: str, attempt_id: str | None, paging: Paging, *, project: str
) -> tuple[list[Any], int]:
    """(id, attempt, sequence) of the page's spans, and how many there are in all. `paging` is known to be right."""
    of_attempt = attempt_id is not None
    which: dict[str, Any] = {"rollout": rollout_id, "project_name": project}
    if of_attempt:
        which["attempt"] = attempt_id
    everything = -1 if tx.is_sqlite else None
    most = everything if paging.limit == -1 else paging.limit
    rows = tx.hot(PAGES[of_attempt], **which, most=most, skipped=paging.offset)
    is_end = (rows or not paging.offset) and (paging.limit == -1 or len(rows) < paging.limit)
    return rows, paging.offset + len(rows) if is_end else tx.hot(COUNTS[of_attempt], **which)[0][0]
