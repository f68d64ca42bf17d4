"""Content of messages, whatever the protocol, as parts of the GenAI conventions.

Owns: one reader per type of content block; OpenAI, OpenAI Responses and Anthropic use different names, so one table serves all.
Promises: never raises on any JSON, copies no megabytes: base64 over 4 KB becomes its type, size and SHA-256.
Refuses to know: messages, requests and answers.
"""

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from leyden.gateway.decoding import read_json
from leyden.ingest.shapes import is_list, is_object, object_or_empty

Part = dict[str, Any]

MAX_INLINE_CHARS = 4096
"""Longest base64 text that stays in a part."""

_SLICE = 1 << 20  # a multiple of four, so that each slice of base64 decodes alone
_MAX_DEPTH = 40

# A block that calls itself so is no part: its fields may be anything.
_OURS = frozenset(
    ("generic", "reasoning", "blob", "uri", "tool_call", "tool_call_response", "server_tool_call")
)


def parts(content: Any) -> list[Part]:
    """The parts of a message's content: a text, a list of blocks, or one block."""
    if isinstance(content, str):
        return [text_part(content)] if content else []
    blocks = content if is_list(content) else [content] if is_object(content) else []
    return [part for block in blocks if (part := block_part(block)) is not None]


def block_part(block: Any) -> Part | None:
    """One content block as a part; a type nobody knows keeps its fields. None for what is no block."""
    if isinstance(block, str):
        return text_part(block)
    if not is_object(block):
        return None
    kind = text_of(block.get("type")) or ("text" if "text" in block else "generic")
    reader = _READERS.get(kind)
    if reader is None and kind.endswith("_tool_result"):
        reader = _server_tool_result
    if reader is not None:
        return reader(block)
    return {"type": "generic", "content": lean(block)} if kind in _OURS else {**lean(block), "type": kind}


def text_part(content: str) -> Part:
    """What was said."""
    return {"type": "text", "content": content}


def reasoning_part(content: str) -> Part:
    """What was thought."""
    return {"type": "reasoning", "content": content}


def call_part(*, id: Any, name: Any, arguments: Any) -> Part:
    """A tool call; arguments that came as JSON in a text are read, and stay a text when they do not parse."""
    return {
        "type": "tool_call",
        "id": text_of(id),
        "name": text_of(name) or "",
        "arguments": read_arguments(arguments),
    }


def response_part(*, id: Any, response: Any) -> Part:
    """A tool's result: one text when it is nothing but text, else its parts."""
    return {"type": "tool_call_response", "id": text_of(id), "response": _plain(response)}


def server_call_part(*, id: Any, name: str, call: Any) -> Part:
    """A call of a tool that the provider runs itself."""
    return {"type": "server_tool_call", "id": text_of(id), "name": name, "server_tool_call": lean(call)}


def read_arguments(arguments: Any) -> Any:
    """Arguments of a tool call as JSON; the text itself when it is no JSON object or list."""
    if not isinstance(arguments, str):
        return lean(arguments)
    value = read_json(arguments.encode("utf-8", "replace"))
    return lean(value) if is_object(value) or is_list(value) else arguments


def plain_text(content: Any) -> str:
    """What the text blocks of a content say, joined; "" when nothing is said."""
    if isinstance(content, str):
        return content
    return "".join(part["content"] for part in parts(content) if part["type"] == "text")


def text_of(value: Any) -> str | None:
    """The value when it is a text with something in it."""
    return value if isinstance(value, str) and value else None


def blob_part(data: str, mime: str, modality: str, *, start: int = 0) -> Part:
    """Base64, from `start` on, as a part: its text while that is short, else its size in bytes and SHA-256."""
    part: Part = {"type": "blob", "modality": modality, "mime_type": mime}
    if len(data) <= MAX_INLINE_CHARS:
        return {**part, "content": data[start:]}
    size, digest = _digest(data, start)
    return {**part, "bytes": size, "sha256": digest}


def thoughts(item: Mapping[str, Any]) -> list[Part]:
    """What a reasoning item of the Responses API lets one read: its summary, and its text where there is one."""
    return [part for key in ("summary", "content") for part in parts(item.get(key))]


def chat_content(found: list[Part]) -> Any:
    """Parts as OpenAI's chat API has a content: a text, or a list of blocks; None when nothing is said in them."""
    said = [block for part in found if (block := _chat_block(part)) is not None]
    if said and all(block["type"] == "text" for block in said):
        return "".join(block["text"] for block in said)
    return said or None


def chat_thoughts(found: list[Part]) -> dict[str, str]:
    """What parts think, as the field reasoning_content of a chat message; {} when they do not."""
    thought = "".join(part["content"] for part in found if part["type"] == "reasoning")
    return {"reasoning_content": thought} if thought else {}


def chat_calls(found: list[Part]) -> dict[str, list[dict[str, Any]]]:
    """The tool calls among parts, as the field tool_calls of a chat message; {} when there are none."""
    calls = [_chat_call(part) for part in found if part["type"] == "tool_call"]
    return {"tool_calls": calls} if calls else {}


def chat_message(role: str, found: list[Part]) -> dict[str, Any]:
    """A chat message of these parts. Tool results, which are messages of their own there, are left out."""
    return {"role": role, "content": chat_content(found), **chat_thoughts(found), **chat_calls(found)}


def chat_results(found: list[Part]) -> list[dict[str, Any]]:
    """The tool results among parts, each as a chat message."""
    return [
        {"role": "tool", "tool_call_id": part["id"], "content": _chat_response(part["response"])}
        for part in found
        if part["type"] == "tool_call_response"
    ]


def lean(value: Any, depth: int = 0) -> Any:
    """The value without long base64: data URIs, and base64 beside its `media_type` or `format`, become blob parts.

    What nests deeper than 40 levels is left out.
    """
    if isinstance(value, str):
        is_long_uri = (
            len(value) > MAX_INLINE_CHARS and value.startswith("data:") and ";base64," in value[:200]
        )
        return _uri_part(value, "file") if is_long_uri else value
    if depth > _MAX_DEPTH:
        return None
    if is_list(value):
        return [lean(entry, depth + 1) for entry in value]
    if not is_object(value):
        return value
    data, mime = value.get("data"), text_of(value.get("media_type")) or text_of(value.get("format"))
    if mime and isinstance(data, str) and len(data) > MAX_INLINE_CHARS:
        return blob_part(data, mime, "file")
    return {key: lean(entry, depth + 1) for key, entry in value.items()}


def _chat_block(part: Part) -> dict[str, Any] | None:
    if part["type"] in ("text", "refusal"):
        return {"type": "text", "text": part["content"]}
    if part["type"] == "uri" and part.get("modality") == "image":
        return {"type": "image_url", "image_url": {"url": part["uri"]}}
    if part["type"] == "blob" and part.get("modality") == "image" and "content" in part:
        return {
            "type": "image_url",
            "image_url": {"url": f"data:{part['mime_type']};base64,{part['content']}"},
        }
    is_elsewhere = part["type"] in ("reasoning", "tool_call", "tool_call_response")
    return None if is_elsewhere or part["type"].startswith("server_tool_call") else part


def _chat_call(part: Part) -> dict[str, Any]:
    arguments = part["arguments"]
    text = arguments if isinstance(arguments, str) else _json(arguments)
    return {"id": part["id"], "type": "function", "function": {"name": part["name"], "arguments": text}}


def _chat_response(response: Any) -> Any:
    if is_list(response) and all(is_object(entry) and "type" in entry for entry in response):
        return chat_content(response)
    return response if isinstance(response, str) or response is None else _json(response)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain(response: Any) -> Any:
    if not is_list(response):
        return lean(response)
    found = [part for block in response if (part := _inner_part(block)) is not None]
    if found and all(part["type"] == "text" for part in found):
        return "".join(part["content"] for part in found)
    return found


def _inner_part(block: Any) -> Part | None:
    """A block of a result. A result in a result is nothing that exists, and would be read without end."""
    is_result = is_object(block) and block.get("type") == "tool_result"
    return {"type": "generic", "content": lean(block)} if is_result else block_part(block)


def _text(block: Mapping[str, Any]) -> Part:
    said = block.get("text")
    return text_part(said if isinstance(said, str) else "")


def _refusal(block: Mapping[str, Any]) -> Part:
    return {"type": "refusal", "content": text_of(block.get("refusal")) or ""}


def _thinking(block: Mapping[str, Any]) -> Part:
    return reasoning_part(text_of(block.get("thinking")) or text_of(block.get("text")) or "")


def _redacted_thinking(_: Mapping[str, Any]) -> Part:
    return {**reasoning_part(""), "redacted": True}


def _tool_use(block: Mapping[str, Any]) -> Part:
    broken = text_of(block.get("partial_json"))
    return call_part(id=block.get("id"), name=block.get("name"), arguments=broken or block.get("input"))


def _tool_result(block: Mapping[str, Any]) -> Part:
    part = response_part(id=block.get("tool_use_id"), response=block.get("content"))
    return {**part, "is_error": True} if block.get("is_error") is True else part


def _server_tool_use(block: Mapping[str, Any]) -> Part:
    name = text_of(block.get("name")) or ""
    call = {"type": name, "input": block.get("partial_json") or block.get("input")}
    return server_call_part(id=block.get("id"), name=name, call=call)


def _server_tool_result(block: Mapping[str, Any]) -> Part:
    result = {"type": block.get("type"), "content": lean(block.get("content"))}
    return {
        "type": "server_tool_call_response",
        "id": text_of(block.get("tool_use_id")),
        "server_tool_call_response": result,
    }


def _image_url(block: Mapping[str, Any]) -> Part:
    image = block.get("image_url")
    url = object_or_empty(image).get("url") if is_object(image) else image
    return _uri_part(url, "image") if isinstance(url, str) else _file(block, "image")


def _image(block: Mapping[str, Any]) -> Part:
    return _source(object_or_empty(block.get("source")), "image")


def _document(block: Mapping[str, Any]) -> Part:
    return _source(object_or_empty(block.get("source")), "document")


def _source(source: Mapping[str, Any], modality: str) -> Part:
    """Where Anthropic's images and documents are."""
    data, url = source.get("data"), source.get("url")
    if source.get("type") == "text" and isinstance(data, str):
        return text_part(data)
    if isinstance(data, str):
        return blob_part(data, text_of(source.get("media_type")) or "", modality)
    if isinstance(url, str):
        return _uri_part(url, modality)
    if "content" in source:
        return {"type": modality, "content": lean(source["content"])}
    return _file(source, modality)


def _input_audio(block: Mapping[str, Any]) -> Part:
    audio = object_or_empty(block.get("input_audio"))
    data = audio.get("data")
    return blob_part(data if isinstance(data, str) else "", f"audio/{audio.get('format')}", "audio")


def _input_file(block: Mapping[str, Any]) -> Part:
    file = object_or_empty(block.get("file")) or block
    data, url = file.get("file_data"), file.get("file_url")
    found = data if isinstance(data, str) else url
    part = _uri_part(found, "document") if isinstance(found, str) else _file(file, "document")
    name = text_of(file.get("filename"))
    return {**part, "filename": name} if name else part


def _file(source: Mapping[str, Any], modality: str) -> Part:
    return {"type": "file", "modality": modality, "file_id": text_of(source.get("file_id"))}


def _uri_part(uri: str, modality: str) -> Part:
    comma = uri.find(",", 0, 200) if uri.startswith("data:") else -1
    header = uri[5:comma] if comma > 0 else ""
    if not header.endswith(";base64"):
        return {"type": "uri", "modality": modality, "uri": uri}
    return blob_part(uri, header.split(";")[0], modality, start=comma + 1)


def _digest(data: str, start: int) -> tuple[int, str]:
    """Size in bytes and SHA-256 of what base64 stands for; of the text itself when it is no base64."""
    size, digest = 0, hashlib.sha256()
    try:
        for at in range(start, len(data), _SLICE):
            raw = b64decode(data[at : at + _SLICE])
            size += len(raw)
            digest.update(raw)
    except ValueError:
        raw = data[start:].encode("utf-8", "replace")
        return len(raw), hashlib.sha256(raw).hexdigest()
    return size, digest.hexdigest()


_READERS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "refusal": _refusal,
    "thinking": _thinking,
    "reasoning_text": _thinking,
    "summary_text": _thinking,
    "redacted_thinking": _redacted_thinking,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "server_tool_use": _server_tool_use,
    "mcp_tool_use": _server_tool_use,
    "image_url": _image_url,
    "input_image": _image_url,
    "image": _image,
    "document": _document,
    "input_audio": _input_audio,
    "file": _input_file,
    "input_file": _input_file,
}
