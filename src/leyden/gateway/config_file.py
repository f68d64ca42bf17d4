"""Configuration as it was written: YAML with line numbers, `${NAME}` from the environment or a secrets file, faults told by line.

Promises: YAML is loaded safely; what stands for a secret is never repeated in a fault. Refuses to know: what the keys mean.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from leyden.errors import BadFormat, BadInput

Where = tuple[str | int, ...]

_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_MOST_FAULTS = 10


class Fault(NamedTuple):
    """One thing that is wrong: at which key, and what."""

    where: Where
    text: str


class Source(NamedTuple):
    """Configuration before anybody judged it. name: the file, or what stands in for one. node: the YAML it came from, for lines."""

    name: str
    data: dict[str, Any]
    node: yaml.Node | None = None
    folder: Path = Path()

    def line(self, where: Where) -> int | None:
        """The line of a key, or of the nearest one around it; None when there is no file."""
        if self.node is None:
            return None
        node, line = self.node, self.node.start_mark.line + 1
        for step in where:
            found = _child(node, step)
            if found is not None:
                node, line = found
        return line

    def refuse(self, faults: list[Fault]) -> BadInput:
        """All faults as one error."""
        told = [self._told(fault) for fault in faults[:_MOST_FAULTS]]
        if len(faults) == 1:
            return BadInput(f"{self.name} {told[0]}" if self.node else f"{self.name}: {told[0]}")
        more = len(faults) - len(told)
        told += [f"and {more} more"] if more else []
        return BadInput("\n  ".join([f"{self.name} has {len(faults)} faults:", *told]))

    def _told(self, fault: Fault) -> str:
        line = self.line(fault.where)
        key = ".".join(str(step) for step in fault.where)
        told = f"{key}: {fault.text}" if key else fault.text
        return told if line is None else f"line {line}: {told}"


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, int] | None:
    """The node below a key and the key's line; None when the node has no such key."""
    children = cast(list[Any], node.value)
    if isinstance(node, yaml.MappingNode):
        for key, value in children:
            if key.value == str(step):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(children):
        return children[step], children[step].start_mark.line + 1
    return None


def read(path: Path) -> Source:
    """A YAML file. Raises BadInput when it cannot be read, BadFormat with the line when it is no YAML mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {_reason(error)}") from None
    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)  # what yaml.safe_load uses; its nodes know their lines
        node: yaml.Node | None = loader.get_single_node()
        data: Any = loader.construct_document(node) if node is not None else {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadFormat(f"{path}{_mark(error)} is not valid YAML: {_problem(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(data, dict):
        raise BadFormat(f"{path} holds no mapping at its top: it starts with a key such as `upstreams:`")
    source = Source(path.name, cast(dict[str, Any], data), node, path.parent)
    if twice := _twice(node, ()):
        raise source.refuse(twice)
    return source


def _reason(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8"


def _mark(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" line {mark.line + 1}" if mark is not None else ""


def _problem(error: Exception) -> str:
    # Not str(error): it quotes the file, and what is quoted may be a key.
    return str(getattr(error, "problem", None) or "it cannot be read as plain data")


def _twice(node: yaml.Node | None, where: Where) -> list[Fault]:
    """Keys that a mapping has twice: YAML would silently keep the last."""
    faults: list[Fault] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in cast(list[Any], node.value):
            name = str(key.value)
            if name in seen and name != "<<":
                faults.append(Fault((*where, name), "this key is there twice"))
            seen.add(name)
            faults += _twice(value, (*where, name))
    return faults


def lookup(source: Source, env: Mapping[str, str]) -> Callable[[str], str | None]:
    """Where `${NAME}` is looked up: the environment, then the file that `secrets_file` names.

    Raises BadInput when that file cannot be read.
    """
    named = source.data.get("secrets_file")
    secrets = read_secrets(source.folder / named) if isinstance(named, str) else {}
    return lambda name: env.get(name) or secrets.get(name)


def read_secrets(path: Path) -> dict[str, str]:
    """A flat YAML mapping (.yaml, .yml), or lines NAME=VALUE (anything else). Raises BadInput."""
    if path.suffix in (".yaml", ".yml"):
        return {str(name): str(value) for name, value in read(path).data.items()}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The secrets file {path} cannot be read: {_reason(error)}") from None
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines)
    return {
        name.strip(): value.strip().strip("\"'")
        for name, equals, value in pairs
        if equals and not name.startswith("#")
    }


def filled(value: Any, find: Callable[[str], str | None], *, faults: list[Fault], where: Where = ()) -> Any:
    """The same data with `${NAME}` and `${NAME:-default}` filled in and `$$` as `$`; a name that nobody has becomes a fault."""
    if isinstance(value, str):
        return _filled_text(value, find, faults=faults, where=where)
    if isinstance(value, dict):
        items = cast(dict[Any, Any], value).items()
        return {key: filled(inner, find, faults=faults, where=(*where, str(key))) for key, inner in items}
    if isinstance(value, list):
        inners = enumerate(cast(list[Any], value))
        return [filled(inner, find, faults=faults, where=(*where, i)) for i, inner in inners]
    return value


def _filled_text(text: str, find: Callable[[str], str | None], *, faults: list[Fault], where: Where) -> str:
    def fill(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if name is None:
            return "$"
        value = find(name) or default
        if value is None:
            said = f"${{{name}}} is neither in the environment nor in a secrets_file; set it, or write ${{{name}:-}}"
            faults.append(Fault(where, said))
        return value or ""

    return _REFERENCE.sub(fill, text)
