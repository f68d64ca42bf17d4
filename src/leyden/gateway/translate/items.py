"""The output items of OpenAI's Responses."""

from dataclasses import dataclass, field
from typing import Any, Literal

from leyden.gateway.translate.sealing import sealed

ItemKind = Literal["message", "reasoning", "function_call"]

_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


@dataclass(slots=True, eq=False)
class Item:
    """An output item while it is put together. said: its text or arguments so far. sealed: blocks that only Anthropic reads."""

    kind: ItemKind
    index: int
    id: str
    call_id: str = ""
    name: str = ""
    said: str = ""
    sealed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def body(self, *, is_done: bool) -> dict[str, Any]:
        """As it stands in a response: whole, or just begun."""
        status, said = ("completed", self.said) if is_done else ("in_progress", None)
        match self.kind:
            case "message":
                return _message_item(self.id, said, status=status)
            case "reasoning":
                item = _reasoning_item(self.id, said or None, status=status)
                return {**item, "encrypted_content": sealed(self.sealed)} if is_done and self.sealed else item
            case "function_call":
                return _call_item(self.id, self.call_id, self.name, said or "", status=status)


def of_kind(items: list[Item], kind: ItemKind, *, answer: str) -> Item:
    """The last item where it is of this kind, else a new one."""
    return items[-1] if items and items[-1].kind == kind else new_item(items, kind, answer=answer)


def new_item(items: list[Item], kind: ItemKind, *, answer: str) -> Item:
    """One more item of an output. answer: the stem of the response's id."""
    item = Item(kind, len(items), f"{_PREFIX[kind]}_{answer}_{len(items)}")
    items.append(item)
    return item


def text_part(said: str) -> dict[str, Any]:
    """A part of a message item."""
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def _message_item(item_id: str, said: str | None, *, status: str = "completed") -> dict[str, Any]:
    """A message; None: one that has no part yet."""
    content = [] if said is None else [text_part(said)]
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _reasoning_item(item_id: str, thought: str | None, *, status: str = "completed") -> dict[str, Any]:
    """Reasoning in the open, as models have it whose provider does not hide it."""
    content = [] if thought is None else [{"type": "reasoning_text", "text": thought}]
    return {"id": item_id, "type": "reasoning", "status": status, "summary": [], "content": content}


def _call_item(
    item_id: str, call_id: str, name: str, arguments: str, *, status: str = "completed"
) -> dict[str, Any]:
    """A function call."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
