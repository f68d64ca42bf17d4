"""Findings as they were last measured. A finding keeps its status and first sight across analyses; its fingerprint is its name."""

import sqlalchemy as sa

from leyden.errors import NotFound
from leyden.store import tables
from leyden.store.engine import Tx
from leyden.types import EvidenceSpan, Finding, FindingStatus, Impact, StoreEvent

t = tables.finding
e = tables.finding_evidence
IMPACT = tuple(Impact.model_fields)


def save(tx: Tx, found: list[Finding], *, project: str) -> None:
    """Keep a ranked list of findings: new ones open, known ones measured anew, fixed ones that came back opened again.

    Findings that this analysis did not see stay as they were, ranked behind.
    """
    known = {
        row.fingerprint: row
        for row in tx.all(
            sa.select(t.c.fingerprint, t.c.status, t.c.first_seen, t.c.last_seen).where(
                t.c.project == project
            )
        )
    }
    tx.run(
        sa.update(t).where(t.c.project == project, t.c.rank < len(found)).values(rank=t.c.rank + len(found))
    )
    for rank, finding in enumerate(found):
        old = known.get(finding.fingerprint)
        values = {
            **finding.model_dump(exclude={"impact", "evidence", "status"}), **finding.impact.model_dump(), "project": project, "rank": rank,
            "status": "open" if old is None or (old.status == "fixed" and (finding.last_seen or 0) > (old.last_seen or 0)) else old.status,
        }  # fmt: skip
        if old is None:
            tx.run(sa.insert(t), values)
        else:
            values["first_seen"] = min(
                (x for x in (old.first_seen, finding.first_seen) if x is not None), default=None
            )
            tx.run(sa.update(t).where(t.c.project == project, t.c.fingerprint == finding.fingerprint), values)
        tx.notices.add(StoreEvent("findings", finding.fingerprint, str(values["status"]), project))
        tx.run(sa.delete(e).where(e.c.project == project, e.c.fingerprint == finding.fingerprint))
        if finding.evidence:
            key = {"project": project, "fingerprint": finding.fingerprint}
            tx.run(
                sa.insert(e),
                [{**key, "position": i, **span._asdict()} for i, span in enumerate(finding.evidence)],
            )


def query(
    tx: Tx, *, project: str, status: FindingStatus | None = None, limit: int = -1, offset: int = 0
) -> tuple[list[Finding], int]:
    """A page of findings, the weightiest first, with their evidence, and how many match."""
    where = [t.c.project == project, *([t.c.status == status] if status is not None else [])]
    total = tx.first(sa.select(sa.func.count()).select_from(t).where(*where))[0]
    rows = tx.all(
        sa.select(t)
        .where(*where)
        .order_by(t.c.rank, t.c.fingerprint)
        .limit(limit if limit >= 0 else 10**9)
        .offset(offset)
    )
    evidence: dict[str, list[EvidenceSpan]] = {row.fingerprint: [] for row in rows}
    for row in tx.all(
        sa.select(e)
        .where(e.c.project == project, e.c.fingerprint.in_(list(evidence)))
        .order_by(e.c.fingerprint, e.c.position)
    ):
        evidence[row.fingerprint].append(EvidenceSpan(row.rollout_id, row.attempt_id, row.span_id))
    return [_finding(row, evidence[row.fingerprint]) for row in rows], total


def get(tx: Tx, fingerprint: str, *, project: str) -> Finding:
    """One finding with its evidence. Raises NotFound."""
    row = tx.first(sa.select(t).where(t.c.project == project, t.c.fingerprint == fingerprint))
    if row is None:
        raise NotFound(f"Finding {fingerprint} not found", hint="`leyden findings` lists them")
    spans = tx.all(
        sa.select(e).where(e.c.project == project, e.c.fingerprint == fingerprint).order_by(e.c.position)
    )
    return _finding(row, [EvidenceSpan(span.rollout_id, span.attempt_id, span.span_id) for span in spans])


def set_status(tx: Tx, fingerprint: str, status: FindingStatus, *, project: str) -> Finding:
    """Accept, fix, dismiss or reopen a finding. Raises NotFound."""
    tx.run(sa.update(t).where(t.c.project == project, t.c.fingerprint == fingerprint).values(status=status))
    tx.notices.add(StoreEvent("findings", fingerprint, status, project))
    return get(tx, fingerprint, project=project)


def _finding(row: sa.Row[tuple[object, ...]], evidence: list[EvidenceSpan]) -> Finding:
    values = dict(row._mapping)  # pyright: ignore[reportPrivateUsage]
    return Finding(
        **{k: values[k] for k in Finding.model_fields if k in values},
        impact=Impact(**{k: values[k] for k in IMPACT}),
        evidence=evidence,
    )
