"""`leyden db check`: whether everything holds together."""

import click

from leyden.cli.safe_text import one_line
from leyden.cli.session import db_option, opened
from leyden.cli.units import many
from leyden.store import check


@click.command("check")
@click.option(
    "--deep",
    is_flag=True,
    help="Also read every index entry and unpack every pack: minutes on a large store.",
)
@db_option
def command(deep: bool, db: str | None) -> int:
    """Look whether everything holds together; exit code 1 when something does not. Changes nothing.

    Others may use the database meanwhile.

    \b
    Examples:
      leyden db check
      leyden db check --deep
    """
    wrong = 0
    with opened(db) as store:
        for result in check.run(store.database, deep=deep):
            wrong += result.found
            click.echo(f"{'ok     ' if not result.found else 'WRONG  '}{result.name}")
            _print_problems(result)
    click.echo("Everything holds together." if not wrong else f"{many(wrong, 'problem')} found.")
    return 1 if wrong else 0


def _print_problems(result: check.Result) -> None:
    for problem in result.problems:
        click.echo(f"       {one_line(problem)}")
    if result.found > len(result.problems):
        click.echo(f"       and {result.found - len(result.problems):,} more")
    if result.found:
        click.echo(f"       → {result.cure}")
