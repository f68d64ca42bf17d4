"""Parts of a message, both ways: text, images, documents.

Owns: how a block of Anthropic's Messages is said as a part of OpenAI's chat, and back. A part that the other protocol cannot say
is refused by name. Marks for prompt caches, an image's `detail` and the request for citations are left behind.
"""

import re
from typing import Any

from leyden.gateway.translate.fields import only_texts, parts, refusal, text
from leyden.ingest.shapes import object_or_empty

_DATA_URL = re.compile(r"data:([^;,]+)(?:;[^;,]+)*;base64,(.*)", re.DOTALL)
PDF = "application/pdf"


def chat_parts(content: Any, where: str) -> list[dict[str, Any]]:
    """Text, images and documents of a Messages content as chat parts, without empty texts."""
    made = [part for at, block in parts(content, where) for part in chat_part(block, at)]
    return [part for part in made if part.get("text") != ""]


def chat_part(block: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """One Messages block as chat parts: a document may hold several."""
    match block.get("type"):
        case "text":
            return [_text_part(text(block.get("text"), f"{where}.text"))]
        case "image":
            return [{"type": "image_url", "image_url": {"url": _image_url(block, f"{where}.source")}}]
        case "document":
            return _document_parts(block, where)
        case "search_result":
            lines = [str(block.get("title", "")), str(block.get("source", ""))]
            return [_text_part("\n".join([*lines, *only_texts(block.get("content"), f"{where}.content")]))]
        case "tool_reference":
            return [_text_part(text(block.get("tool_name"), f"{where}.tool_name"))]
        case kind:
            raise refusal(where, f"a {kind!r} block cannot be carried to chat completions")


def _text_part(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def _image_url(block: dict[str, Any], where: str) -> str:
    source = object_or_empty(block.get("source"))
    match source.get("type"):
        case "url":
            return text(source.get("url"), f"{where}.url")
        case "base64":
            media_type = text(source.get("media_type"), f"{where}.media_type")
            return f"data:{media_type};base64,{text(source.get('data'), f'{where}.data')}"
        case kind:
            raise refusal(where, f"an image from {kind!r} cannot be carried; send it as base64 or URL")


def _document_parts(block: dict[str, Any], where: str) -> list[dict[str, Any]]:
    source = object_or_empty(block.get("source"))
    match source.get("type"):
        case "text":
            return [_text_part(text(source.get("data"), f"{where}.source.data"))]
        case "content":
            return chat_parts(source.get("content"), f"{where}.source.content")
        case "base64":
            data = text(source.get("data"), f"{where}.source.data")
            name = str(block.get("title") or "document.pdf")
            return [{"type": "file", "file": {"filename": name, "file_data": f"data:{PDF};base64,{data}"}}]
        case kind:
            raise refusal(f"{where}.source", f"a document from {kind!r} cannot be carried; send it as base64")


def blocks(content: Any, where: str) -> list[dict[str, Any]]:
    """The parts of a chat content as Messages blocks, without empty texts, which Anthropic refuses."""
    made = [_block(part, at) for at, part in parts(content, where)]
    return [block for block in made if block.get("text") != ""]


def _block(part: dict[str, Any], where: str) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            return _text_part(text(part.get("text"), f"{where}.text"))
        case "refusal":
            return _text_part(text(part.get("refusal"), f"{where}.refusal"))
        case "image_url":
            url = object_or_empty(part.get("image_url")).get("url")
            return {"type": "image", "source": _source(text(url, f"{where}.image_url.url"), where)}
        case "file":
            return _document(object_or_empty(part.get("file")), f"{where}.file")
        case kind:
            raise refusal(where, f"a {kind!r} part cannot be carried to Anthropic's Messages")


def _source(url: str, where: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise refusal(where, "a data: URL must be base64")
    return {"type": "base64", "media_type": found[1], "data": found[2]}


def _document(file: dict[str, Any], where: str) -> dict[str, Any]:
    found = _DATA_URL.fullmatch(str(file.get("file_data") or ""))
    if found is None or found[1] != PDF:
        raise refusal(where, "only a PDF in `file_data`, as a base64 data: URL, can be carried")
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": {"type": "base64", "media_type": PDF, "data": found[2]}, **title}
