"""Writes docs/reference/ from the code: one page of settings, one page of commands.

`python scripts/reference.py` writes; tests/test_docs.py compares, so a page is never older than what it describes.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click

from leyden.settings import Settings

FOLDER = Path(__file__).parent.parent / "docs" / "reference"


def settings_page() -> str:
    """Every setting as a row: variable, default, meaning."""
    rows = [
        f"| `{f.metadata['env']}` | {f'`{_as_typed(f.default)}`' if f.default != '' else ''} | {f.metadata['doc']} |"
        for f in fields(Settings)
    ]
    head = [
        "# Settings",
        "",
        "Each is an environment variable; options of commands and arguments of `leyden.init` win over it. "
        "`src/leyden/settings.py` is the source of this page (`make docs`).",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def commands_page() -> str:
    """The `--help` of every command, in the order `--help` lists them."""
    head = [
        "# Commands",
        "",
        "What each command prints for `--help`; its source is `src/leyden/cli/` (`make docs`).",
        "",
    ]
    parts = [
        part
        for name, command in programs()
        for path, each in walk(name, command)
        for part in (f"## {path}", "", "```", _help(path, each), "```", "")
    ]
    return "\n".join([*head, *parts])


def programs() -> list[tuple[str, click.Command]]:
    """The programs that an install puts on the PATH."""
    from leyden.cli import agl, main

    return [("leyden", main.main), ("agl", agl.main)]


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The command and everything under it, each with the words that a user types."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            if (child := command.get_command(context, name)) and not child.hidden:
                yield from walk(f"{path} {name}", child)


def _help(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _as_typed(default: object) -> str:
    """A default as one writes it in the environment."""
    return str(default).lower() if isinstance(default, bool) else str(default)


PAGES = {"settings.md": settings_page, "cli.md": commands_page}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
        print(FOLDER / name)
