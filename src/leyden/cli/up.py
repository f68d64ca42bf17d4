"""`leyden up`: the server on one port."""

import click

from leyden.cli.serve import serve
from leyden.cli.serving import chosen, server_options
from leyden.settings import Settings


@click.command("up")
@server_options
def command(
    host: str | None, port: int | None, db: str | None, postgres: str | None, config: str | None, log_level: str | None
) -> None:  # fmt: skip
    """Start the server: store, OpenTelemetry collector, gateway for model calls and API on one port.

    It serves this machine without keys. To serve others, make a key first and bind another address.

    \b
    Examples:
      leyden up
      leyden up --port 45993 --db ./runs.db
      leyden keys create --name ops --scope admin && leyden up --host 0.0.0.0
    """
    given = chosen(host=host, port=port, db=db, postgres=postgres, config=config, log_level=log_level)
    serve(Settings.from_env(**given))
