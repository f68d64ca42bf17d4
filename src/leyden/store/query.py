"""Filters, sorting and paging as every list of the store protocol has them (agent-lightning 0.3, query types)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from leyden.errors import BadInput
from leyden.store.engine import Tx

Logic = Literal["and", "or"]


class Paging(NamedTuple):
    """Which slice, in which order. limit −1 is everything; sort_by None is insertion order."""

    limit: int = -1
    offset: int = 0
    sort_by: str | None = None
    sort_order: Literal["asc", "desc"] = "asc"


def check_paging(paging: Paging, allowed: Sequence[str]) -> None:
    """Refuse what cannot be a page. The texts are those that published clients know.

    Raises BadInput.
    """
    if paging.sort_by is not None and paging.sort_by not in allowed:
        raise BadInput(f"Invalid sort_by: {paging.sort_by}, allowed fields are: {', '.join(allowed)}")
    if paging.limit == 0 or paging.limit < -1:
        raise BadInput("Limit must be greater than 0 or -1 for no limit")
    if paging.offset < 0:
        raise BadInput("Offset must be greater than or equal to 0")


def joined(conditions: list[sa.ColumnElement[bool]], logic: Logic) -> sa.ColumnElement[bool]:
    """Conditions joined by and / or; no condition holds always."""
    if not conditions:
        return sa.true()
    return sa.and_(*conditions) if logic == "and" else sa.or_(*conditions)


def order(column: sa.ColumnElement[Any], name: str, descending: bool) -> sa.ColumnElement[Any]:
    """Order by a column with nulls where the protocol puts them.

    A null time counts as +infinity (last ascending, first descending), a null text as "", a null number as 0.
    """
    if name.endswith("_time"):
        return column.desc().nulls_first() if descending else column.asc().nulls_last()
    if isinstance(column, sa.Column) and not column.nullable:
        # As it is, so that an index in this order is used.
        return column.desc() if descending else column.asc()
    filler: Any = "" if isinstance(column.type, sa.Text) else 0
    filled = sa.func.coalesce(column, filler)
    return filled.desc() if descending else filled.asc()


def paged(
    tx: Tx,
    select: sa.Select[*tuple[Any, ...]],
    paging: Paging,
    sortable: Mapping[str, sa.ColumnElement[Any]],
    *,
    otherwise: Sequence[Any],
) -> tuple[Sequence[Any], int]:
    """The rows of a page and the number of all matches. `otherwise` orders the list without sort_by and breaks ties with it.

    Raises BadInput for a page that cannot be.
    """
    check_paging(paging, list(sortable))
    matches = sa.select(sa.func.count()).select_from(select.subquery())
    if paging.sort_by is not None:
        select = select.order_by(
            order(sortable[paging.sort_by], paging.sort_by, paging.sort_order == "desc"), *otherwise
        )
    else:
        select = select.order_by(
            *(column.desc() for column in otherwise) if paging.sort_order == "desc" else otherwise
        )
    if paging.limit != -1:
        select = select.limit(paging.limit)
    elif paging.offset and tx.is_sqlite:
        select = select.limit(-1)
    rows = tx.all(select.offset(paging.offset) if paging.offset else select)
    is_end = (rows or not paging.offset) and (paging.limit == -1 or len(rows) < paging.limit)
    return rows, paging.offset + len(rows) if is_end else tx.first(matches)[0]
