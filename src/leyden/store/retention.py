"""Which rollouts a store keeps, and letting go of the others.

Owns: policies per project and mode, what keeps a rollout that a policy would delete, the decision, and the loop that acts
on it. Promises: only rollouts that have ended go, oldest first; none that something points at (`KEPT_BY`); a dry run
counts the same rollouts and changes nothing. Two processes that apply the same policy at once do no harm.
Refuses to know: how a rollout is taken apart. See `deletion.py`.

The bytes of a rollout are those of its payloads as they lie: compressed in packs, or as they came. Its columns, and its share
of the search index, come on top.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from leyden.settings import Settings
from leyden.store import deletion, partitions, tables
from leyden.store.engine import Tx
from leyden.store.opening import Store
from leyden.store.sql import INSERTS, Statement
from leyden.types import FINAL_ROLLOUT

t = tables.rollout
s = tables.span
p = tables.span_payload
k = tables.pack
r = tables.retention
bind = sa.bindparam

BATCH = 200

# Why a rollout stays although a policy would delete it. Whatever else points at rollouts gets a line here.
KEPT_BY: dict[str, sa.ColumnElement[bool]] = {
    "finding": sa.exists().where(tables.finding_evidence.c.rollout_id == t.c.rollout_id),
}
_KEPT = sa.case(*((condition, name) for name, condition in KEPT_BY.items()), else_=None)
_ENDED = t.c.status.in_([sa.literal_column(f"'{status}'") for status in sorted(FINAL_ROLLOUT)])
# Rollouts with payloads that no pack holds.
_HOT = sa.or_(t.c.unpacked == 1, ~sa.exists().where(k.c.rollout_id == t.c.rollout_id))


class Policy(NamedTuple):
    """How much of a project's rollouts in a mode is kept; None is no bound. Mode "": every mode without a policy of its own.

    max_age_s counts from the end of a rollout, max_rollouts and max_bytes count ended rollouts, the newest first.
    """

    project: str
    mode: str = ""
    max_age_s: float | None = None
    max_rollouts: int | None = None
    max_bytes: int | None = None

    @property
    def is_bound(self) -> bool:
        """Whether it deletes anything at all."""
        return self[2:] != (None, None, None)


class Scope(NamedTuple):
    """Which rollouts a policy is about: one mode of a project, or (mode None) all modes but some."""

    project: str
    mode: str | None = None
    but: tuple[str, ...] = ()

    def condition(self) -> sa.ColumnElement[bool]:
        """The ended rollouts in it, as SQL."""
        mode = sa.true() if self.mode is None else t.c.mode == self.mode
        others = sa.or_(t.c.mode.is_(None), t.c.mode.not_in(self.but)) if self.but else sa.true()
        return sa.and_(t.c.project == self.project, _ENDED, mode, others)


class Candidate(NamedTuple):
    """An ended rollout as the decision sees it. kept_by: what points at it, None when nothing does."""

    rollout_id: str
    start_time: float
    end_time: float
    spans: int
    bytes: int
    kept_by: str | None


class Stock(NamedTuple):
    """What a scope holds. `bytes` is 0 when no policy asks for it."""

    rollouts: int
    bytes: int


class Pruned(NamedTuple):
    """What went, or would go: rollouts, their spans, their bytes; how many stayed, by reason. more: there was no time for all."""

    rollouts: int = 0
    spans: int = 0
    bytes: int = 0
    kept: dict[str, int] = {}  # noqa: RUF012 - never changed, only replaced
    more: bool = False

    def plus(self, other: "Pruned") -> "Pruned":
        """Both together."""
        kept = dict(self.kept)
        for name, number in other.kept.items():
            kept[name] = kept.get(name, 0) + number
        return Pruned(
            self.rollouts + other.rollouts,
            self.spans + other.spans,
            self.bytes + other.bytes,
            kept,
            self.more or other.more,
        )


def due(
    oldest_first: Iterable[Candidate], policy: Policy, *, stock: Stock, now: float
) -> Iterator[Candidate]:
    """The candidates that the policy names, in order; those with `kept_by` are named too, and have to stay.

    What stays counts against the bounds, so younger rollouts go in its place.
    """
    rollouts, held = stock
    oldest = None if policy.max_age_s is None else now - policy.max_age_s
    for one in oldest_first:
        over = (policy.max_rollouts is not None and rollouts > policy.max_rollouts) or (
            policy.max_bytes is not None and held > policy.max_bytes
        )
        if over or (oldest is not None and one.end_time < oldest):
            if one.kept_by is None:
                rollouts, held = rollouts - 1, held - one.bytes
            yield one
        elif oldest is None or one.start_time >= oldest:
            return  # whatever follows is younger


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def take_stock(tx: Tx, scope: Scope, *, with_bytes: bool) -> Stock:
    """How many ended rollouts a scope has, and how many bytes of payloads."""
    where = scope.condition()
    rollouts = tx.first(sa.select(sa.func.count()).select_from(t).where(where))[0]
    if not with_bytes:
        return Stock(rollouts, 0)
    packed = sa.select(sa.func.sum(k.c.packed_bytes)).join(t, t.c.rollout_id == k.c.rollout_id).where(where)
    hot = (
        sa.select(sa.func.sum(sa.func.length(p.c.payload)))
        .select_from(t.join(s, s.c.rollout_id == t.c.rollout_id).join(p, p.c.id == s.c.id))
        .where(where, _HOT)
    )
    return Stock(rollouts, sum(int(tx.first(each)[0] or 0) for each in (packed, hot)))


def _page(tx: Tx, scope: Scope, after: tuple[float, int]) -> list[Any]:
    """The next ended rollouts by start, each with its end, whether it has hot payloads, and why it would be kept."""
    later = sa.or_(t.c.start_time > after[0], sa.and_(t.c.start_time == after[0], t.c.seq > after[1]))
    columns = (t.c.rollout_id, t.c.seq, t.c.start_time, t.c.end_time, t.c.unpacked, _KEPT.label("kept_by"))
    # The first condition is implied by `later`, and is the one that an index can begin at.
    select = sa.select(*columns).where(scope.condition(), t.c.start_time >= after[0], later)
    return list(tx.all(select.order_by(t.c.start_time, t.c.seq).limit(BATCH)))


def _candidates(tx: Tx, rows: list[Any], *, measured: bool) -> list[Candidate]:
    ids = [row.rollout_id for row in rows]
    counts = (
        sa.select(s.c.rollout_id, sa.func.count()).where(s.c.rollout_id.in_(ids)).group_by(s.c.rollout_id)
    )
    spans = {row[0]: row[1] for row in tx.all(counts)}
    sizes = _sizes(tx, rows) if measured else {}
    return [
        Candidate(
            row.rollout_id,
            row.start_time,
            row.end_time if row.end_time is not None else row.start_time,
            spans.get(row.rollout_id, 0),
            sizes.get(row.rollout_id, 0),
            row.kept_by,
        )
        for row in rows
    ]


def _sizes(tx: Tx, rows: list[Any]) -> dict[str, int]:
    ids = [row.rollout_id for row in rows]
    packed = (
        sa.select(k.c.rollout_id, sa.func.sum(k.c.packed_bytes))
        .where(k.c.rollout_id.in_(ids))
        .group_by(k.c.rollout_id)
    )
    found = {row[0]: int(row[1]) for row in tx.all(packed)}
    hot_ids = [row.rollout_id for row in rows if row.unpacked or row.rollout_id not in found]
    hot = (
        sa.select(s.c.rollout_id, sa.func.sum(sa.func.length(p.c.payload)))
        .join(p, p.c.id == s.c.id)
        .where(s.c.rollout_id.in_(hot_ids))
        .group_by(s.c.rollout_id)
    )
    for rollout_id, size in tx.all(hot):
        found[rollout_id] = found.get(rollout_id, 0) + int(size or 0)
    return found


def _oldest_first(store: Store, scope: Scope, *, measured: bool) -> Iterator[Candidate]:
    """Every ended rollout of a scope, a page of them at a time; no read lasts longer than one page."""
    after = (float("-inf"), 0)
    while True:
        with store.database.read() as tx:
            rows = _page(tx, scope, after)
            found = _candidates(tx, rows, measured=measured)
        yield from found
        if len(rows) < BATCH:
            return
        after = (rows[-1].start_time, rows[-1].seq)


# ── Acting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def prune(
    store: Store,
    policy: Policy,
    *,
    now: float,
    dry_run: bool = False,
    scope: Scope | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Delete what a policy names, or only count it. scope: default what the policy's project and mode say (mode "": all modes).

    enough: asked between slices; True ends the work there.
    """
    if not policy.is_bound:
        return Pruned()
    scope = scope or Scope(policy.project, policy.mode or None)
    with store.database.read() as tx:
        stock = take_stock(tx, scope, with_bytes=policy.max_bytes is not None)
    named = due(_oldest_first(store, scope, measured=True), policy, stock=stock, now=now)
    if not dry_run:
        named = _days_dropped(store, named, project=policy.project, now=now, enough=enough)
    total = Pruned()
    for batch in _batches(named):
        if enough():
            return total._replace(more=True)
        total = total.plus(_let_go(store, batch, project=policy.project, dry_run=dry_run, enough=enough))
    return total


def _batches(named: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    batch: list[Candidate] = []
    for one in named:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _days_dropped(
    store: Store, named: Iterator[Candidate], *, project: str, now: float, enough: Callable[[], bool]
) -> Iterator[Candidate]:
    """The same rollouts, after the days that consist of them were dropped whole, where spans lie in one table per day."""
    with store.database.read() as tx:
        if not partitions.is_partitioned(tx):
            return named
    going = list(named)
    free = [one for one in going if one.kept_by is None]
    hidden: list[str] = []
    for some in _batches(iter(free)):
        if enough():
            break
        ids = [one.rollout_id for one in some]
        hidden += store.writer.run(
            lambda tx, ids=ids: [
                id_ for id_ in ids if _may_go(tx, id_) and deletion.hide(tx, id_, project=project)
            ]
        )
    with store.database.read() as tx:
        spans, today = sum(one.spans for one in free), datetime.fromtimestamp(now, UTC).date()
        days = partitions.worth_dropping(tx, before=today, going_spans=spans) if hidden else []
    for day in days:
        partitions.drop_day(store.database, day, going=hidden)
    while not enough() and store.writer.run(partitions.clear):
        pass
    return iter(going)


def _let_go(
    store: Store, batch: list[Candidate], *, project: str, dry_run: bool, enough: Callable[[], bool]
) -> Pruned:
    kept: dict[str, int] = {}
    for one in batch:
        if one.kept_by is not None:
            kept[one.kept_by] = kept.get(one.kept_by, 0) + 1
    free = {one.rollout_id: one for one in batch if one.kept_by is None}
    if dry_run:
        gone = list(free)
    else:
        gone = deletion.erase(store.writer, list(free), project=project, may_go=_may_go, enough=enough)
    return Pruned(
        len(gone), sum(free[id_].spans for id_ in gone), sum(free[id_].bytes for id_ in gone), kept,
        more=len(gone) < len(free) and enough(),
    )  # fmt: skip


MAY_GO = Statement(
    lambda _: (
        sa.select(t.c.seq)
        .where(t.c.rollout_id == bind("rollout"), _ENDED, *(~condition for condition in KEPT_BY.values()))
        .with_for_update()
    )
)


def _may_go(tx: Tx, rollout_id: str) -> bool:
    """Whether a rollout may still be deleted: it was given another attempt meanwhile, or a finding points at it now."""
    return bool(tx.hot(MAY_GO, rollout=rollout_id))


def finish(store: Store, *, enough: Callable[[], bool] = lambda: False) -> int:
    """Delete the rest of what was half deleted when its process ended; how many rollouts."""
    with store.database.read() as tx:
        begun = deletion.unfinished(tx)
    return len(deletion.erase(store.writer, begun, project=deletion.DELETED, enough=enough))


def apply(
    store: Store,
    *,
    now: float,
    otherwise: Policy | None = None,
    project: str | None = None,
    mode: str | None = None,
    dry_run: bool = False,
    enough: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Apply the stored policies: of all projects or of one, of all modes or of one; `otherwise` to projects without one.

    Finishes first what another process left half deleted.
    """
    if not dry_run:
        finish(store, enough=enough)
    with store.database.read() as tx:
        known = policies(tx)
        names = projects(tx) if project is None else [project]
    total = Pruned()
    for policy, scope in planned(known, names, otherwise):
        if mode is None or policy.mode == mode:
            total = total.plus(prune(store, policy, now=now, scope=scope, dry_run=dry_run, enough=enough))
    return total


def planned(
    known: Iterable[Policy], projects: Iterable[str], otherwise: Policy | None
) -> Iterator[tuple[Policy, Scope]]:
    """Each policy of the projects with the rollouts it is about; `otherwise` stands in where a project has none for ""."""
    by_project: dict[str, list[Policy]] = {}
    for policy in known:
        by_project.setdefault(policy.project, []).append(policy)
    for project in projects:
        own = by_project.get(project, [])
        modes = tuple(policy.mode for policy in own if policy.mode)
        if otherwise is not None and len(modes) == len(own):
            own = [*own, otherwise._replace(project=project, mode="")]
        for policy in own:
            if policy.mode:
                yield policy, Scope(project, policy.mode)
            else:
                yield policy, Scope(project, but=modes)


# ── Policies ─────────────────────────────────────────────────────────────────────────────────────────────────────


def policies(tx: Tx, *, project: str | None = None) -> list[Policy]:
    """The stored policies, of one project or of all."""
    where = [] if project is None else [r.c.project == project]
    return [Policy(*row) for row in tx.all(sa.select(r).where(*where).order_by(r.c.project, r.c.mode))]


def projects(tx: Tx) -> list[str]:
    """Every project that has rollouts."""
    found: list[str] = []
    last = ""
    while (row := tx.first(sa.select(sa.func.min(t.c.project)).where(t.c.project > last)))[0] is not None:
        found.append(last := row[0])
    return found


def put(tx: Tx, policy: Policy) -> None:
    """Store a policy in the place of the one for its project and mode."""
    made = INSERTS[tx.dialect.name](r).values(policy._asdict())
    bounds = {name: made.excluded[name] for name in Policy._fields[2:]}
    tx.run(made.on_conflict_do_update(index_elements=["project", "mode"], set_=bounds))


def default(settings: Settings) -> Policy:
    """What the settings keep of a project without a policy for "": everything, unless told otherwise."""
    return Policy("", max_age_s=settings.keep_days * 86_400 or None, max_bytes=settings.keep_bytes or None)


def clear(tx: Tx, *, project: str, mode: str) -> bool:
    """Remove a policy; whether there was one."""
    return tx.run(sa.delete(r).where(r.c.project == project, r.c.mode == mode)) > 0
