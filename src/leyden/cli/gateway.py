"""`leyden gateway`: the role of the gateway alone, as a server of its own."""

import click

from leyden.cli.serve import serve
from leyden.cli.serving import chosen, server_options
from leyden.server.gateway import check_packages
from leyden.settings import Settings


@click.command("gateway")
@server_options
def command(
    host: str | None, port: int | None, db: str | None, postgres: str | None, config: str | None, log_level: str | None
) -> None:  # fmt: skip
    """Start a server that forwards and records model calls, and does nothing else.

    `leyden up` has a gateway already. One of its own keeps model calls apart from everything else that a store does; any number
    of them record into one PostgreSQL. What they record is read, packed and analysed by the servers beside them.

    \b
    Examples:
      leyden gateway --postgres postgresql://leyden@db/leyden --host 0.0.0.0 --port 4748
      leyden gateway --db ./runs.db --config ./leyden.yaml
    """
    check_packages()
    given = chosen(host=host, port=port, db=db, postgres=postgres, config=config, log_level=log_level)
    serve(Settings.from_env(roles="gateway", **given))
