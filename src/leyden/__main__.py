"""`python -m leyden` is the `leyden` command."""

from leyden.cli.main import main

main()
