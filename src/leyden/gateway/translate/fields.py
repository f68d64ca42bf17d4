"""Reading a client's request field by field: of the right type, or refused by name."""

import json
from collections.abc import Iterator
from typing import Any

from leyden.errors import BadInput
from leyden.ingest.shapes import is_list, is_object


def refusal(where: str, why: str, hint: str | None = None) -> BadInput:
    """The error that says which field cannot be carried to the upstream's protocol."""
    return BadInput(f"{where}: {why}", hint)


def text(value: Any, where: str) -> str:
    """A string; raises BadInput for anything else."""
    if isinstance(value, str):
        return value
    raise refusal(where, "a string is expected here")


def objects(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a list with the name of its place; nothing for None. Raises BadInput for anything else."""
    if value is None:
        return
    if not is_list(value):
        raise refusal(where, "a list is expected here")
    for n, item in enumerate(value):
        if not is_object(item):
            raise refusal(f"{where}[{n}]", "an object is expected here")
        yield f"{where}[{n}]", item


def parts(content: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of a message's content in either protocol: a string is one part of text, None is none."""
    if isinstance(content, str):
        yield where, {"type": "text", "text": content}
    else:
        yield from objects(content, where)


def only_texts(content: Any, where: str) -> list[str]:
    """The texts of a content that may hold nothing else, without the empty ones; raises BadInput for another part."""
    texts: list[str] = []
    for at, part in parts(content, where):
        if part.get("type") != "text":
            raise refusal(at, f"only text can be carried here, not {part.get('type')!r}")
        texts.append(text(part.get("text"), f"{at}.text"))
    return [said for said in texts if said]


def given(pairs: dict[str, Any]) -> dict[str, Any]:
    """The fields that are set: None means that the other protocol's default holds."""
    return {key: value for key, value in pairs.items() if value is not None}


def plain_json(value: Any) -> str:
    """JSON as a model reads it: compact, and letters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
