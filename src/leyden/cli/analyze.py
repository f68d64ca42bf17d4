"""`leyden analyze`: what goes wrong in stored runs, and what it costs."""

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Literal

import click

from leyden.analysis.report import Report
from leyden.cli.report_view import print_report, to_markdown
from leyden.cli.safe_text import to_json
from leyden.cli.screen import screen
from leyden.cli.session import connected, find_rollout, store_options
from leyden.cli.units import many, since

Form = Literal["screen", "json", "markdown"]
# Wide enough for a table in a pipe, narrow enough for a mail.
_PIPE_WIDTH = 100


@click.command("analyze")
@click.option("--json", "form", flag_value="json", help="Print the report as JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="Print the report as Markdown.")
@click.option(
    "--since", "since_text", metavar="WHEN", help="Only runs that began after: 12h, 7d, 2026-03-14."
)
@click.option(
    "--filter", "filter_text", metavar="FILTER", help="Only runs that match: 'agent:router status:failed'."
)
@click.option("--rollout", "rollouts", multiple=True, metavar="ID", help="Only this one; repeatable.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a file: JSON, or Markdown when it ends in .md.",
)
@click.option(
    "--save/--no-save", default=True, help="Keep the findings for `leyden findings`.  [default: save]"
)
@store_options
def command(
    form: Form | None, since_text: str | None, filter_text: str | None, rollouts: tuple[str, ...], out: Path | None, save: bool,
    store: str | None, db: str | None,
) -> None:  # fmt: skip
    """Say what goes wrong in stored runs, how often, what it costs, and what to do first.

    \b
    Examples:
      leyden analyze
      leyden analyze --since 7d --out report.md
      leyden analyze --store http://127.0.0.1:4747 --json
    """
    after = since(since_text, now=time.time())
    if out is not None and not out.parent.is_dir():
        raise click.BadParameter(f"the folder {out.parent} does not exist", param_hint="'--out'")
    with connected(store, db) as client:
        ids = [find_rollout(client, given) for given in rollouts] or None
        report = Report.model_validate(client.analyze(filter_text, rollout_ids=ids, since=after, save=save))
    if out is not None:
        out.write_text(_written(report, form or _form_of(out)), encoding="utf-8")
        found = many(len(report.findings), "finding")
        click.echo(f"{many(report.totals.runs, 'run')}, {found}: wrote {out}")
    elif form:
        click.echo(_written(report, form))
    elif not report.totals.runs:
        click.echo(
            "No runs match."
            if ids or after or filter_text
            else "No runs yet. `leyden up` says how to send some."
        )
    else:
        console = screen()
        console = console if console.is_terminal else screen(width=_PIPE_WIDTH)
        print_report(report, console, command=_program(), place=_place(store, db), saved=save)


def _program() -> str:
    """What to type to call this program again: its name when it is on the PATH, else the path that was typed."""
    typed = sys.argv[0]
    if Path(typed).name != "leyden" or shutil.which("leyden") in (typed, str(Path(typed).absolute())):
        return "leyden"
    return shlex.quote(typed)


def _place(store: str | None, db: str | None) -> str:
    if store:
        return f"--store {shlex.quote(store)}"
    return f"--db {shlex.quote(db)}" if db else ""


def _form_of(out: Path) -> Form:
    return "markdown" if out.suffix.lower() in (".md", ".markdown") else "json"


def _written(report: Report, form: Form) -> str:
    if form == "markdown":
        return to_markdown(report)
    return to_json(report.model_dump(mode="json"))
