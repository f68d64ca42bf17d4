"""OpenAI's Responses API: how requests and answers read. Pure, and raises on nothing."""

from collections.abc import Mapping
from typing import Any

from leyden.gateway import parts
from leyden.gateway.counts import responses_usage
from leyden.gateway.error_bodies import error_of, only_error
from leyden.gateway.parts import Part, text_of
from leyden.gateway.reading import Asked, Assembler, Said
from leyden.gateway.request_fields import asked_of
from leyden.gateway.responses_stream import ResponseAssembler
from leyden.ingest.shapes import is_list, is_object, list_or_empty, object_or_empty

_CLIENT_CALLS = frozenset(
    (
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
    )
)


_UNFINISHED = ("queued", "in_progress")


class Responses:
    """Responses."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request says. Items of one speaker that follow each other are one message, as they are one turn."""
        system = parts.parts(body.get("instructions"))
        messages = _messages(body.get("input"))
        prompt = [parts.chat_message("system", system)] if system else []
        for message in messages:
            results = parts.chat_results(message["parts"])
            prompt += results or [parts.chat_message(message["role"], message["parts"])]
        return asked_of(body, messages=messages, system=system, prompt=prompt)

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer says. The finish reason is why it is incomplete, else its status; `completion` has OpenAI chat's word."""
        if not is_object(body):
            return only_error(body)
        items = [item for item in list_or_empty(body.get("output")) if is_object(item)]
        found = [part for item in items for part in _item_parts(item)]
        status = text_of(body.get("status"))
        status = None if status in _UNFINISHED else status
        why = text_of(object_or_empty(body.get("incomplete_details")).get("reason"))
        reason = why or status
        ends = {"finish_reason": reason} if reason else {}
        chat_reason = _chat_reason(status, why, found)
        chat_ends = {"finish_reason": chat_reason} if chat_reason else {}
        return Said(
            id=text_of(body.get("id")),
            model=text_of(body.get("model")),
            finish_reasons=(reason,) if reason else (),
            usage=responses_usage(body.get("usage")),
            messages=[{"role": "assistant", "parts": found, **ends}] if found else [],
            completion=[{**parts.chat_message("assistant", found), **chat_ends}] if found else [],
            service_tier=text_of(body.get("service_tier")),
            logprobs=_logprobs(items),
            error=error_of(body),
        )

    def assembler(self) -> Assembler:
        """For one stream."""
        return ResponseAssembler()


def _chat_reason(status: str | None, why: str | None, found: list[Part]) -> str | None:
    if why:
        return "length" if why == "max_output_tokens" else why
    if status != "completed":
        return status
    return "tool_calls" if any(part["type"] == "tool_call" for part in found) else "stop"


def _messages(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "parts": parts.parts(given)}]
    messages: list[dict[str, Any]] = []
    was_message = True
    for item in list_or_empty(given):
        if not is_object(item):
            continue
        role, is_message, found = _role(item), _is_message(item), _item_parts(item)
        # Two messages in a row stay two; a call or a thought joins the turn it belongs to.
        if messages and messages[-1]["role"] == role and role != "user" and not (is_message and was_message):
            messages[-1]["parts"] += found
        else:
            messages.append({"role": role, "parts": found})
        was_message = is_message
    return messages


def _is_message(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "message" or ("type" not in item and "role" in item)


def _role(item: Mapping[str, Any]) -> str:
    if _is_message(item):
        return text_of(item.get("role")) or "user"
    kind = text_of(item.get("type")) or ""
    if kind.endswith("_output"):
        return "tool"
    return "user" if kind in ("item_reference", "") or kind.startswith("input_") else "assistant"


def _item_parts(item: Mapping[str, Any]) -> list[Part]:
    """The parts of one item of an input or an output."""
    kind = text_of(item.get("type")) or ""
    if _is_message(item):
        return parts.parts(item.get("content"))
    if kind == "reasoning":
        return parts.thoughts(item)
    if kind in _CLIENT_CALLS:
        return [_call(item)]
    if kind.endswith("_call_output"):
        return [parts.response_part(id=item.get("call_id"), response=item.get("output"))]
    if kind.endswith("_call"):
        return [_server_call(item, kind)]
    return parts.parts(item)


def _call(item: Mapping[str, Any]) -> Part:
    kind = text_of(item.get("type")) or ""
    arguments = next(
        (item[key] for key in ("arguments", "input", "action", "operation") if key in item), None
    )
    id = item.get("call_id") or item.get("id")
    return parts.call_part(id=id, name=item.get("name") or kind.removesuffix("_call"), arguments=arguments)


def _server_call(item: Mapping[str, Any], kind: str) -> Part:
    """A call that OpenAI ran itself, with its result, which is in the same item. A picture it made becomes a blob."""
    call = {key: value for key, value in item.items() if key != "result"}
    if isinstance(item.get("result"), str):
        mime = f"image/{item.get('output_format') or 'png'}"
        call["result"] = parts.blob_part(item["result"], mime, "image")
    return parts.server_call_part(id=item.get("id"), name=kind.removesuffix("_call"), call=call)


def _logprobs(items: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    found = [
        entry
        for item in items
        for block in list_or_empty(item.get("content"))
        if is_object(block) and is_list(block.get("logprobs"))
        for entry in block["logprobs"]
        if is_object(entry)
    ]
    return found or None
