"""`leyden db backup`: a copy of the database while it is in use."""

from pathlib import Path

import click

from leyden.cli.screen import on_terminal
from leyden.cli.session import database_here, db_option
from leyden.cli.units import many, size
from leyden.errors import BadInput
from leyden.store import upkeep


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Overwrite the file.")
@db_option
def command(file: Path, force: bool, db: str | None) -> None:
    """Copy a SQLite database into FILE, while servers write to it, and verify the copy.

    To restore it, stop the server and open the copy with --db, or move it into the place of the database.

    \b
    Examples:
      leyden db backup /backups/leyden-monday.db
      leyden db backup latest.db --force
    """
    url = database_here(db)
    if "://" in url and not url.startswith("sqlite:"):
        raise BadInput("PostgreSQL is copied by its own program", hint=upkeep.pg_dump(url, file))
    path = str(Path(url.removeprefix("sqlite:///")).expanduser())
    done = upkeep.backup(path, file, force=force, told=_progress)
    if on_terminal():
        click.echo("\r", nl=False)
    click.echo(f"{file}: {size(done.bytes)}, verified.")
    if done.packs_elsewhere:
        click.echo(f"{many(done.packs_elsewhere, 'pack')} at a URL are not inside: copy those too.", err=True)


def _progress(share: float) -> None:
    if on_terminal():
        click.echo(f"\r{share:4.0%}", nl=False)
