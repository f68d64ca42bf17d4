"""The rest of both APIs, which passes as it is: files, batches, images, sound, moderations, stored responses. Facts as data, and what
can be read of a call without knowing its surface.

Promises: what a model does there leaves a span with its model, tokens and outcome; bytes of pictures, sound and files are in no span.
"""

import re
from collections.abc import Mapping
from typing import Any

from leyden.gateway.call import Call, Family
from leyden.gateway.counts import chat_usage, responses_usage
from leyden.gateway.error_bodies import error_of, only_error
from leyden.gateway.openai_stream import ChunkAssembler
from leyden.gateway.parts import parts, text_of
from leyden.gateway.reading import Asked, Assembler, Said
from leyden.gateway.request_fields import parameters_of, session_of
from leyden.ingest.shapes import is_object
from leyden.ingest.usage import Usage

# The first part of a path below the version; None for those that both APIs have.
_OWNERS: dict[str, Family | None] = {
    **dict.fromkeys(("assistants", "audio", "chat", "completions", "containers", "conversations"), "openai"),
    **dict.fromkeys(("embeddings", "evals", "fine_tuning", "images", "moderations", "responses"), "openai"),
    **dict.fromkeys(("rerank", "score", "threads", "uploads", "vector_stores", "videos"), "openai"),
    **dict.fromkeys(("complete", "messages", "skills"), "anthropic"),
    **dict.fromkeys(("batches", "files"), None),
}
METHODS = frozenset({"GET", "POST", "DELETE"})

OPERATIONS = {
    "/audio/speech": "text_to_speech",
    "/audio/transcriptions": "transcription",
    "/audio/translations": "transcription",
    "/complete": "text_completion",
    "/images/edits": "image_generation",
    "/images/generations": "image_generation",
    "/images/variations": "image_generation",
    "/moderations": "moderation",
    "/rerank": "rerank",
    "/responses/compact": "chat",
    "/score": "rerank",
    "/videos": "video_generation",
}
"""`gen_ai.operation.name` of what a POST there lets a model do; the rest only manages things, and leaves no span."""

_MODEL_IN_FORM = re.compile(rb'name="model"\r?\n(?:[^\r\n]+\r?\n)*\r?\n([^\r\n]{1,200})\r?\n--')


def owner_of(below: str) -> Family | None:
    """Whose API a path below the version belongs to; "openai" for those that both have. None for a path of neither."""
    first = below[1:].partition("/")[0]
    return (_OWNERS[first] or "openai") if first in _OWNERS else None


def is_shared(below: str) -> bool:
    """Whether both APIs have this path, so that only a header tells whose client it is."""
    first = below[1:].partition("/")[0]
    return first == "models" or (first in _OWNERS and _OWNERS[first] is None)


def operation_of(call: Call) -> str | None:
    """What a model does in this call; None when none does anything."""
    return OPERATIONS.get(call.path.rstrip("/")) if call.method == "POST" else None


def model_in_form(body: bytes) -> str:
    """The field `model` of a multipart form; "" without one."""
    found = _MODEL_IN_FORM.search(body)
    return found[1].decode("utf-8", "replace").strip() if found else ""


class Other:
    """Requests and answers of which only what most of them share is read. Pure, and raises on nothing."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request says: its prompt or input is one user message."""
        said = [text for name in ("prompt", "input", "query") if (text := text_of(body.get(name)))]
        return Asked(
            messages=[{"role": "user", "parts": parts(text)} for text in said],
            system=[],
            tools=[],
            prompt=[{"role": "user", "content": text} for text in said],
            parameters=parameters_of(body),
            session=session_of(body),
        )

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer says: its text, tokens and error."""
        if not is_object(body):
            return only_error(body)
        said = text_of(body.get("text"))
        return Said(
            id=text_of(body.get("id")),
            model=text_of(body.get("model")),
            finish_reasons=(),
            usage=_usage(body.get("usage")),
            messages=[{"role": "assistant", "parts": parts(said)}] if said else [],
            completion=[{"role": "assistant", "content": said}] if said else [],
            error=error_of(body),
        )

    def assembler(self) -> Assembler:
        """For a stream: what is known of its chunks is what they have in common with others."""
        return ChunkAssembler(is_chat=False)


def _usage(usage: Any) -> Usage | None:
    return responses_usage(usage) or chat_usage(usage)
