"""The documentation is true: its examples run, its commands exist, its links lead somewhere, its references are current."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from scripts import reference

from leyden.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "design" not in path.relative_to(ROOT).parts
]
ENV_OF_TESTS = {"LEYDEN_DATA", "LEYDEN_REQUIRE_ALL", "LEYDEN_TEST_POSTGRES"}
ENV_OF_RUN = {"LEYDEN_ROLLOUT_ID", "LEYDEN_ATTEMPT_ID"}  # what `leyden run` tells its program


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """(words after the language, text) of every fenced block in that language."""
    pattern = rf"^```{language}\b([^\n]*)\n(.*?)^```"
    return [(m[1].strip(), m[2]) for m in re.finditer(pattern, page.read_text(), re.M | re.S)]


EXAMPLES = [
    pytest.param(text, note, id=f"{page.relative_to(ROOT)}-{n}")
    for page in PAGES
    for n, (note, text) in enumerate(blocks(page, "python"))
]
COMMANDS = sorted(
    {
        line.strip()
        for page in PAGES
        for _, text in blocks(page, "bash")
        for line in text.replace("\\\n", " ").splitlines()
        if re.match(r"\s*(leyden|agl|make) ", line)
    }
)


@pytest.mark.parametrize(("text", "note"), EXAMPLES)
def test_every_python_example_runs(text: str, note: str, server_url: str, tmp_path: Path) -> None:
    """Against a real server. A block fenced as "python needs <package>" is only compiled: we do not install the package."""
    program = text.replace("http://127.0.0.1:4747", server_url)
    compile(program, "example", "exec")
    if note.startswith("needs "):
        return
    environment = {**os.environ, "LEYDEN_URL": server_url}
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_the_docs_exists(line: str) -> None:
    words = re.sub(r"\s+(--\s|[#|>]).*", "", line).split()  # behind -- stands another program
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
        return
    commands = {context.command_path: context.command for context in reference.commands()}
    path = words[0]
    while len(words) > len(path.split()) and f"{path} {words[len(path.split())]}" in commands:
        path = f"{path} {words[len(path.split())]}"
    assert path != words[0] or words[1].startswith("-"), f"no such command: {line}"
    known = {option for parameter in commands[path].params for option in parameter.opts} | {"--help"}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used - known == set()


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_reference_page_is_current(name: str) -> None:
    assert (reference.FOLDER / name).read_text() == reference.PAGES[name](), "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_in_the_docs_is_a_setting(page: Path) -> None:
    known = {f.metadata["env"] for f in fields(Settings)} | ENV_OF_TESTS | ENV_OF_RUN
    assert set(re.findall(r"\bLEYDEN_[A-Z0-9_]+\b", page.read_text())) - known == set()
