"""The repository is what its map says: paths, sizes, layers, and how much an install brings along."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "leyden"
MODULES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted(str(path.parent.relative_to(ROOT)) for path in PACKAGE.rglob("__init__.py"))
LONGEST_MODULE = 500
# Modules that are longer today, and how long they may get. None may join the list.
STILL_LONGER = {}


def the_map() -> list[str]:
    """The paths in the README's map: the first word of each of its lines."""
    section = (ROOT / "README.md").read_text().partition("\n## The map\n")[2].partition("\n## ")[0]
    block = re.search(r"^```\w*\n(.*?)^```", section, re.M | re.S)
    assert block, "README.md has no fenced block under '## The map'"
    return [line.split()[0] for line in block[1].splitlines() if line.strip()]


def test_every_path_in_the_map_exists() -> None:
    assert [path for path in the_map() if not (ROOT / path).exists()] == []


def test_every_package_is_in_the_map() -> None:
    assert [path for path in PACKAGES if f"{path}/" not in the_map()] == []


def test_every_top_folder_is_in_the_map() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    folders = {f"{path.split('/')[0]}/" for path in tracked.splitlines() if "/" in path}
    mapped = {f"{path.split('/')[0]}/" for path in the_map() if "/" in path}
    assert folders - mapped == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_can_be_read_in_one_sitting(module: Path) -> None:
    lines = len(module.read_text().splitlines())
    assert lines <= LONGEST_MODULE


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_opens_with_its_contract(module: Path) -> None:
    source = module.read_text()
    assert not source.strip() or source.lstrip().startswith('"""')


def test_the_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_every_package_has_its_layer() -> None:
    layers = (ROOT / ".importlinter").read_text().partition("layers =")[2].partition("[")[0]
    top = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    top |= {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert top == set(re.findall(r"leyden\.(\w+)", layers))


@pytest.mark.parametrize(("extra", "most"), [("", 16), ("server", 45), ("postgres", 45)])
def test_an_install_stays_small(extra: str, most: int) -> None:
    assert len(installed_by(extra)) <= most, sorted(installed_by(extra))


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_holds_names_versions_and_hashes_only(lock: str) -> None:
    lines = [line.strip(" \\") for line in (ROOT / lock).read_text().splitlines()]
    allowed = re.compile(r"[a-z0-9._-]+==[\w.]+( ; .+)?|--hash=sha256:[0-9a-f]{64}")
    assert [line for line in lines if not allowed.fullmatch(line)] == []


def test_import_leyden_loads_nothing_heavy() -> None:
    heavy = "{'fastapi', 'starlette', 'sqlalchemy', 'pydantic', 'httpx', 'opentelemetry', 'rich', 'click'}"
    code = f"import sys, leyden; print(sorted(set(sys.modules) & {heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def installed_by(extra: str) -> set[str]:
    """Every distribution that `pip install leyden[extra]` brings here, leyden itself not counted."""
    seen: set[tuple[str, str]] = set()
    open_ = [("leyden", extra)]
    while open_:
        name, wanted = open_.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # an extra of a package that is not installed here
            pytest.fail(f"{name} is not installed: run make setup")
        for need in needs:
            if need.marker is None or need.marker.evaluate({"extra": wanted}):
                open_ += [(canonicalize_name(need.name), each) for each in ("", *need.extras)]
    return {name for name, _ in seen} - {"leyden"}
