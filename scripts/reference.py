"""Writes docs/reference/ from the code: one page of settings, one of commands, one of the fields of filters.

`python scripts/reference.py` writes; tests/test_docs.py compares, so a page is never older than what it describes.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click

from leyden.settings import Settings
from leyden.store.filters.fields import ROLLOUT_FIELDS, SPAN_FIELDS

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
        for context in commands()
        for part in (f"## {context.command_path}", "", "```", _help(context), "```", "")
    ]
    return "\n".join([*head, *parts])


def filters_page() -> str:
    """Every field of the filter language, for spans and for rollouts."""
    parts = [
        "# Fields of filters",
        "",
        "What a filter of spans or rollouts may name; [how to filter](../how-to/filter.md) explains the language. "
        "`src/leyden/store/filters/fields.py` is the source of this page (`make docs`).",
        "",
    ]
    for title, listed in (("spans", SPAN_FIELDS), ("rollouts", ROLLOUT_FIELDS)):
        rows = [f"| `{f.name}` | `{f.signs}` | {f.values} | {f.doc} |" for f in listed.values()]
        head = ["| field | operators | values | what it is |", "|---|---|---|---|"]
        parts += [f"## Of {title}", "", *head, *rows, ""]
    return "\n".join(parts)


def commands() -> Iterator[click.Context]:
    """Every command of the programs that an install puts on the PATH, as the context it would run in."""
    from leyden.cli import agl, main

    yield from _walk("leyden", main.main, None)
    yield from _walk("agl", agl.main, None)


def _walk(name: str, command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    settings = {"terminal_width": 100, "max_content_width": 100, **command.context_settings}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            child = command.get_command(context, each)
            if child and not child.hidden:
                yield from _walk(each, child, context)


def _help(context: click.Context) -> str:
    return "\n".join(line.rstrip() for line in context.get_help().splitlines())


def _as_typed(default: object) -> str:
    """A default as one writes it in the environment."""
    return str(default).lower() if isinstance(default, bool) else str(default)


PAGES = {"settings.md": settings_page, "cli.md": commands_page, "filters.md": filters_page}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
        print(FOLDER / name)
