"""Resources: immutable versions of what an agent runs with. An update under the same id adds a version."""

import hashlib
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.query import Paging, paged
from leyden.store.sql import Contains, Statement

t = tables.resources


class ResourcesRow(NamedTuple):
    """One version. `content` is the JSON of name → resource."""

    resources_id: str
    version: int
    create_time: float
    update_time: float
    content: str


COLUMNS = [t.c.resources_id, t.c.version, t.c.create_time, t.c.update_time, t.c.content]
SORTABLE = {name: t.c[name] for name in ("resources_id", "version", "create_time", "update_time")} | {
    "resources": t.c.content
}

LATEST_ID = Statement(
    lambda _: (
        sa.select(t.c.resources_id)
        .where(t.c.project == sa.bindparam("project"))
        .order_by(t.c.update_time.desc(), t.c.seq.desc())
        .limit(sa.literal_column("1"))
    )
)


def put(tx: Tx, *, project: str, resources_id: str, resources: dict[str, Any], now: float) -> ResourcesRow:
    """Store the next version under an id: version 1 when the id is new, else one more with the same create_time."""
    tx.take_turns(f"resources/{project}/{resources_id}")
    old = tx.first(
        sa.select(t.c.version, t.c.create_time, t.c.update_time).where(
            t.c.project == project, t.c.resources_id == resources_id, t.c.is_latest == 1
        )
    )
    # In the order given: agents take the first resource of a type.
    content = orjson.dumps(resources).decode()
    if old is not None:
        tx.run(
            sa.update(t)
            .where(t.c.project == project, t.c.resources_id == resources_id, t.c.is_latest == 1)
            .values(is_latest=0)
        )
        # "Latest" is the greatest update_time, also when the clock stood still or ran back.
        now = max(now, old.update_time + 1e-6)
    row = ResourcesRow(
        resources_id, old.version + 1 if old else 1, old.create_time if old else now, now, content
    )
    digest = hashlib.blake2b(orjson.dumps(resources, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
    tx.run(sa.insert(t), {**row._asdict(), "project": project, "content_hash": digest, "is_latest": 1})
    return row


def latest_id(tx: Tx, *, project: str) -> str | None:
    """The id updated last, or None."""
    rows = tx.hot(LATEST_ID, project=project)
    return rows[0][0] if rows else None


def latest(tx: Tx, *, project: str) -> ResourcesRow | None:
    """The version updated last, or None."""
    row = tx.first(
        sa.select(*COLUMNS)
        .where(t.c.project == project)
        .order_by(t.c.update_time.desc(), t.c.seq.desc())
        .limit(1)
    )
    return ResourcesRow(*row) if row else None


def get(tx: Tx, *, project: str, resources_id: str) -> ResourcesRow | None:
    """The newest version under an id, or None."""
    row = tx.first(
        sa.select(*COLUMNS).where(
            t.c.project == project, t.c.resources_id == resources_id, t.c.is_latest == 1
        )
    )
    return ResourcesRow(*row) if row else None


def query(
    tx: Tx, *, project: str, resources_id: str | None, resources_id_contains: str | None, paging: Paging
) -> tuple[list[ResourcesRow], int]:
    """A page of the newest versions, in order of first creation, and how many match."""
    where = [t.c.project == project, t.c.is_latest == 1]
    if resources_id is not None:
        where.append(t.c.resources_id == resources_id)
    if resources_id_contains is not None:
        where.append(Contains(t.c.resources_id, resources_id_contains))
    rows, total = paged(
        tx, sa.select(*COLUMNS).where(*where), paging, SORTABLE, otherwise=[t.c.create_time, t.c.resources_id]
    )
    return [ResourcesRow(*row) for row in rows], total


def count(tx: Tx, *, project: str) -> int:
    """How many ids there are."""
    return tx.first(
        sa.select(sa.func.count()).select_from(t).where(t.c.project == project, t.c.is_latest == 1)
    )[0]
