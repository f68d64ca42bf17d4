"""`leyden db stats`: where the bytes are."""

import time

import click

from leyden.cli.safe_text import print_json
from leyden.cli.screen import Column, pairs, print_table
from leyden.cli.session import db_option, opened
from leyden.cli.units import ago, many, size
from leyden.store.engine import Database
from leyden.store.sizes import Sizes, measure


@click.command("stats")
@db_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(db: str | None, as_json: bool) -> None:
    """Say where the bytes are, what the store holds, and what waits to be done.

    \b
    Examples:
      leyden db stats
      leyden db stats --db postgresql://me@host/leyden --json
    """
    with opened(db) as store:
        with store.database.read() as tx:
            found = measure(tx)
        if as_json:
            print_json(_as_dict(store.database, found))
            return
        _print(store.database, found)


def _as_dict(database: Database, found: Sizes) -> dict[str, object]:
    return {
        "database": database.label,
        **found._asdict(),
        "parts": [part._asdict() for part in found.parts],
        "groups": [group._asdict() for group in found.groups],
        "payloads": found.payloads._asdict(),
        "waiting": found.waiting._asdict(),
    }


def _print(database: Database, found: Sizes) -> None:
    now = time.time()
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    free = f", {size(found.free_bytes)} of it unused (`leyden db vacuum`)" if found.free_bytes else ""
    pairs(
        [
            ("database", database.label),
            ("kind", f"{kind}, schema {found.schema}"),
            ("size", f"{size(found.total_bytes)}{free}"),
            ("payloads", _payloads(found)),
            ("rollouts", f"{ago(found.oldest, now=now)} to {ago(found.newest, now=now)}" if found.oldest else "none"),
            ("waiting", _waiting(found)),
        ]
    )  # fmt: skip
    click.echo()
    _print_parts(found)
    if found.groups:
        click.echo()
        print_table(
            [Column("PROJECT", cuts=True), Column("MODE"), Column("STATUS"), Column("ROLLOUTS", number=True), Column("SPANS", number=True)],
            [[g.project, g.mode or "", g.status, f"{g.rollouts:,}", f"{g.spans:,}"] for g in found.groups],
        )  # fmt: skip


def _payloads(found: Sizes) -> str:
    p = found.payloads
    said = [f"{many(p.hot_spans, 'span')} as they came ({size(p.hot_bytes)})"]
    if p.packs:
        share = f"{p.packed_bytes / p.raw_bytes:.1%} of {size(p.raw_bytes)}" if p.raw_bytes else "0 B"
        said.append(f"{p.packed_spans:,} in {many(p.packs, 'pack')} ({size(p.packed_bytes)}, {share})")
    if p.elsewhere:
        said.append(f"{many(p.elsewhere, 'pack')} at a URL")
    return "; ".join(said)


def _waiting(found: Sizes) -> str:
    w = found.waiting
    work = [
        (w.unpacked, f"{many(w.unpacked, 'rollout')} to pack"),
        (w.unindexed, f"{many(w.unindexed, 'pack')} to index for search"),
        (w.deleting, f"{many(w.deleting, 'rollout')} to finish deleting"),
    ]
    return ", ".join(text for number, text in work if number) or "nothing"


def _print_parts(found: Sizes) -> None:
    all_bytes = sum((part.table_bytes or 0) + (part.index_bytes or 0) for part in found.parts)

    def row(name: str, rows: str, own: int | None, indexes: int | None) -> list[str]:
        if own is None or indexes is None:
            return [name, rows, "", "", ""]
        share = (own + indexes) / all_bytes if all_bytes else 0.0
        return [name, rows, size(own), size(indexes), f"{share:.1%}"]

    print_table(
        [Column("PART"), *(Column(title, number=True) for title in ("ROWS", "TABLE", "INDEXES", "SHARE"))],
        [row(p.name, "" if p.name == "other" else f"{p.rows:,}", p.table_bytes, p.index_bytes) for p in found.parts],
    )  # fmt: skip
