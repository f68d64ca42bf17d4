"""The texts of a span that a person may look for: messages, tool arguments and results, errors, prompts.

Owns: which strings of a span are worth finding, and where one text ends and the next begins. Pure and deterministic: the same span
gives the same texts as long as `RULES_VERSION` stays.
Refuses to know: words (`words.py`), databases, and what is filtered by a column anyway (model, tool, agent, session): such values
are left out, as are ids and addresses that instrumentation adds by itself.

Agent conversations repeat themselves with every call, so a text is cut where repetition is: each message of a list is a text of its
own, and so is every long string wherever it stands. What remains of an object, such as a tool's arguments, is one text of a line per value.
"""

import re
from typing import Any, NamedTuple

import orjson

from leyden.ingest.shapes import is_list, is_object

RULES_VERSION = 1
PIECE_CHARS = 65_536
SPAN_CHARS = 4 * 2**20  # of one span; what goes beyond is not found
_SHORTEST = 2
_LONG = 200  # a string from here on is a text of its own
_DEEPEST = 24
_SMALLEST_NUMBER = 100  # smaller ones are counts and flags; from here on they are amounts, codes and ids

_TECHNICAL = re.compile(
    r"""(?:
      gen_ai\.(?:operation\.name|provider\.name|system|request\..*|response\..*|usage\..*|agent\.(?:name|id)|conversation\.id
             |output\.type|tool\.(?:name|type|call\.id)|token\..*)
    | gen_ai\.(?:prompt|completion)\.\d+\.(?:role|finish_reason|tool_calls\.\d+\.(?:id|name))
    | (?:telemetry|service|server|client|network|net|thread|code|process|host|os|otel|k8s|container|cloud|http|url|peer|rpc|db\.client
       |agentlightning|leyden|logfire|langfuse|traceloop|deployment)\..*
    | llm\.(?:token_count\..*|model_name|provider|system|request\.type|usage\..*|is_streaming)
    | llm\.(?:input|output)_messages\.\d+\.message\.(?:role|name|tool_calls\.\d+\.tool_call\.(?:id|function\.name)|tool_call_id)
    | (?:openinference\.span\.kind|graph\.node\.(?:id|parent_id)|session\.id|tool\.name|agent\.name|embedding\.model_name)
    | (?:input|output)\.mime_type | error\.type | exception\.(?:type|escaped)
    | ai\.(?:operationId|model\..*|usage\..*|settings\..*|telemetry\..*|response\.(?:id|model|timestamp|finishReason|ms.*|avg.*))
    | .*\.(?:logprobs|token_ids|embedding|vector|vectors)
    )""",
    re.VERBOSE,
)
# Inside a message or result: what only says its shape, and ids that a provider made up.
_SHAPES = {
    "role": {"user", "assistant", "system", "tool", "developer", "human", "ai", "model", "function"},
    "type": {"text", "tool_call", "tool_use", "tool_result", "tool_call_response", "function", "message", "image_url", "object",
             "input_text", "output_text", "reasoning", "thinking", "tool-call", "tool-result", "human", "ai", "ephemeral"},
    "object": {"chat.completion", "response", "message", "list"},
    "finish_reason": {"stop", "tool_calls", "tool_call", "length", "end_turn", "tool_use"},
}  # fmt: skip
_UNSAID = {
    "usage",
    "token_usage",
    "logprobs",
    "embedding",
    "token_ids",
    "signature",
    "encrypted_content",
    "mime_type",
}
_MADE_UP = re.compile(r"(?:call|toolu|chatcmpl|cmpl|msg|fc|rs|resp|run|lc_run)[-_]+[\w-]{8,}")
_MESSAGE_KEYS = {"role", "content", "parts", "type"}
_BYTES = re.compile(r"[A-Za-z0-9+/=_-]{1000}")
_BREAK = re.compile(r"\s")


class Texts(NamedTuple):
    """The texts of a span, each once, in order; and how many characters past the bound were left out."""

    texts: list[str]
    cut: int


def of_span(span: dict[str, Any]) -> list[str]:
    """The texts of a span given in the store protocol's JSON. None is longer than `PIECE_CHARS`."""
    return collect(span).texts


def collect(span: dict[str, Any]) -> Texts:
    """The same, with what was left out because the span holds more than `SPAN_CHARS`."""
    found = _Found()
    status = span.get("status")
    found.string(status.get("description") if is_object(status) else None)
    found.attributes(span.get("attributes"))
    events = span.get("events")
    for event in events if is_list(events) else []:
        found.attributes(event.get("attributes") if is_object(event) else None)
    return Texts(list(found.texts), found.cut)


class _Found:
    def __init__(self) -> None:
        self.texts: dict[str, None] = {}
        self.cut = 0
        self._room = SPAN_CHARS

    def attributes(self, attributes: Any) -> None:
        for key, value in attributes.items() if is_object(attributes) else ():
            if not _TECHNICAL.fullmatch(key):
                self.string(value) if isinstance(value, str) else self.opened(value, 0)

    def string(self, value: Any) -> None:
        """A string that stands alone: itself, or what is in it when it is JSON."""
        if not isinstance(value, str):
            return
        inner = _inner(value)
        self.add(value) if inner is None else self.opened(inner, 0)

    def opened(self, value: Any, depth: int) -> None:
        """An object or list as a text of its own."""
        if is_object(value) or is_list(value):
            loose: list[str] = []
            self._gather("", value, loose, depth)
            if loose:
                self.add("\n".join(loose))

    def _gather(self, key: str, value: Any, loose: list[str], depth: int) -> None:
        """Long strings and messages become texts; what is short goes to `loose`, the rest of the object it stands in."""
        if isinstance(value, str):
            self._gather_string(key, value, loose, depth)
        elif is_object(value):
            for name, item in value.items() if depth < _DEEPEST else ():
                self._gather(name, item, loose, depth + 1)
        elif is_list(value):
            for item in value if depth < _DEEPEST else ():
                if is_object(item) and not _MESSAGE_KEYS.isdisjoint(item):
                    self.opened(item, depth + 1)
                elif not isinstance(item, int | float):  # vectors, token ids
                    self._gather(key, item, loose, depth + 1)
        elif isinstance(value, int) and abs(value) >= _SMALLEST_NUMBER and key not in _UNSAID:
            loose.append(str(value))
        elif isinstance(value, float):
            loose.append(repr(value))

    def _gather_string(self, key: str, value: str, loose: list[str], depth: int) -> None:
        if (
            key in _UNSAID
            or value in _SHAPES.get(key, ())
            or (key.endswith("id") and _MADE_UP.fullmatch(value))
        ):
            return
        inner = _inner(value) if depth < _DEEPEST else None
        if inner is not None:
            self._gather(key, inner, loose, depth + 1)
        elif len(value) >= _LONG:
            self.add(value)
        else:
            loose.append(value)

    def add(self, text: str) -> None:
        text = text.strip()
        if len(text) < _SHORTEST or (
            len(text) >= 1000 and _BYTES.match(text, text.find(",") + 1 if text[:5] == "data:" else 0)
        ):
            return
        if len(text) <= PIECE_CHARS:
            self._keep(text)
            return
        start = 0
        while start < len(text):
            end = _end(text, start)
            self._keep(text[start:end].strip())
            start = end

    def _keep(self, text: str) -> None:
        if not text or text in self.texts:
            return
        if len(text) > self._room:
            self.cut += len(text)
            return
        self._room -= len(text)
        self.texts[text] = None


def _inner(text: str) -> Any:
    """What is in a string that is the JSON of an object or a list; None for any other."""
    start = text[:1]
    if start.isspace():
        start = text.lstrip()[:1]
    if start not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None


def _end(text: str, start: int) -> int:
    """Where a piece ends: at most `PIECE_CHARS` on, between two words when there is such a place near."""
    end = start + PIECE_CHARS
    if end >= len(text):
        return len(text)
    for at in range(end, end - 1000, -1):
        if _BREAK.match(text, at):
            return at
    return end
