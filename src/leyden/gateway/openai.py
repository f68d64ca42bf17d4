"""OpenAI's chat completions, legacy completions and embeddings: how requests and answers read. Pure, and raises on nothing.

Serves everybody who speaks these protocols: Azure, Gemini, DeepSeek, vLLM, SGLang, Ollama and the rest.
"""

from collections.abc import Mapping
from typing import Any

from leyden.gateway import parts
from leyden.gateway.counts import chat_usage
from leyden.gateway.error_bodies import error_of, only_error
from leyden.gateway.openai_stream import ChunkAssembler
from leyden.gateway.parts import Part, text_of
from leyden.gateway.reading import Asked, Assembler, Said
from leyden.gateway.request_fields import asked_of
from leyden.gateway.token_rows import completion_logprobs, prompt_token_ids, response_token_ids
from leyden.ingest.shapes import is_list, is_object, list_or_empty, object_or_empty


class Chat:
    """Chat completions."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request says. System messages stay in the conversation, where this protocol has them; `system` is empty."""
        read = [_message(entry) for entry in list_or_empty(body.get("messages")) if is_object(entry)]
        messages, prompt = [message for message, _ in read], [lean for _, lean in read]
        return asked_of(body, messages=messages, system=[], prompt=prompt)

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer says."""
        if not is_object(body):
            return only_error(body)
        choices = _choices(body)
        read = [(_message(m), c) for c in choices if (m := object_or_empty(c.get("message")))]
        return _said(
            body,
            choices,
            messages=[_finished(message, choice) for (message, _), choice in read],
            completion=[_finished(lean, choice) for (_, lean), choice in read],
        )

    def assembler(self) -> Assembler:
        """For one stream."""
        return ChunkAssembler(is_chat=True)


class Completions:
    """Legacy completions: a prompt is a text, a list of texts, or token ids, of which only the number is kept here."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request says: each prompt is one user message."""
        return _asked_texts(body, body.get("prompt"))

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer says: each choice is one assistant message."""
        if not is_object(body):
            return only_error(body)
        choices = _choices(body)
        read = [(text_of(choice.get("text")) or "", choice) for choice in choices]
        return _said(
            body,
            choices,
            messages=[_finished({"role": "assistant", "parts": parts.parts(t)}, c) for t, c in read],
            completion=[_finished({"role": "assistant", "content": t}, c) for t, c in read],
        )

    def assembler(self) -> Assembler:
        """For one stream."""
        return ChunkAssembler(is_chat=False)


class Embeddings:
    """Embeddings: the vectors themselves are no message and are left out."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request says: each input is one user message."""
        return _asked_texts(body, body.get("input"))

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer says: its model, usage or error."""
        return _said(body, [], messages=[], completion=[]) if is_object(body) else only_error(body)

    def assembler(self) -> Assembler:
        """For a stream, which nobody is known to send."""
        return ChunkAssembler(is_chat=False)


def _asked_texts(body: Mapping[str, Any], given: Any) -> Asked:
    texts = [said for entry in (given if _is_many(given) else [given]) if (said := _text_or_count(entry))]
    messages = [{"role": "user", "parts": [parts.text_part(text)]} for text in texts]
    prompt = [{"role": "user", "content": text} for text in texts]
    return asked_of(body, messages=messages, system=[], prompt=prompt)


def _is_many(given: Any) -> bool:
    return is_list(given) and not (given and isinstance(given[0], int))


def _text_or_count(entry: Any) -> str | None:
    if is_list(entry) and entry and isinstance(entry[0], int):
        return f"[{len(entry)} token ids]"
    return text_of(entry)


def _said(
    body: Mapping[str, Any],
    choices: list[dict[str, Any]],
    *,
    messages: list[dict[str, Any]],
    completion: list[dict[str, Any]],
) -> Said:
    first = choices[0] if choices else {}
    return Said(
        id=text_of(body.get("id")),
        model=text_of(body.get("model")),
        finish_reasons=tuple(
            reason for choice in choices if (reason := text_of(choice.get("finish_reason")))
        ),
        usage=chat_usage(body.get("usage")),
        messages=messages,
        completion=completion,
        service_tier=text_of(body.get("service_tier")),
        prompt_token_ids=prompt_token_ids(body, first),
        response_token_ids=response_token_ids(body, first),
        logprobs=completion_logprobs(first.get("logprobs")),
        error=error_of(body) or next((found for choice in choices if (found := _choice_error(choice))), None),
    )


def _choice_error(choice: Mapping[str, Any]) -> tuple[str, str] | None:
    """OpenRouter puts an upstream's failure into the choice."""
    return error_of({"error": choice["error"]}) if is_object(choice.get("error")) else None


def _choices(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [choice for choice in list_or_empty(body.get("choices")) if is_object(choice)]
    return sorted(found, key=lambda choice: i if type(i := choice.get("index")) is int else 0)


def _finished(message: dict[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    reason = text_of(choice.get("finish_reason"))
    return {**message, "finish_reason": reason} if reason else message


def _message(message: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A chat message in the form of the GenAI conventions, and as it is but without the megabytes of images and sounds."""
    content = message.get("content")
    found, kept = _content(content) if is_list(content) else (parts.parts(content), parts.lean(content))
    rest = {key: parts.lean(value) for key, value in message.items() if key != "content"}
    lean = {**rest, "content": kept} if "content" in message else rest
    role = text_of(message.get("role")) or "assistant"
    if role in ("tool", "function"):
        id = message.get("tool_call_id") or message.get("name")
        return {"role": "tool", "parts": [parts.response_part(id=id, response=content)]}, lean
    return {"role": role, "parts": [*_thoughts(message), *found, *_other_parts(message)]}, lean


def _content(blocks: list[Any]) -> tuple[list[Part], list[Any]]:
    """Each block read once, as a big one is hashed for it."""
    found: list[Part] = []
    kept: list[Any] = []
    for block in blocks:
        part = parts.block_part(block)
        if part is not None:
            found.append(part)
        is_big = part is not None and part["type"] == "blob" and "sha256" in part
        kept.append(part if is_big else parts.lean(block))
    return found, kept


def _thoughts(message: Mapping[str, Any]) -> list[Part]:
    said = text_of(message.get("reasoning_content")) or text_of(message.get("reasoning"))
    return [parts.reasoning_part(said)] if said else []


def _other_parts(message: Mapping[str, Any]) -> list[Part]:
    found: list[Part] = []
    if refusal := text_of(message.get("refusal")):
        found.append({"type": "refusal", "content": refusal})
    audio = object_or_empty(message.get("audio"))
    if said := text_of(audio.get("transcript")):
        found.append(parts.text_part(said))
    return found + [_call(call) for call in _calls(message)]


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = [call for call in list_or_empty(message.get("tool_calls")) if is_object(call)]
    legacy = message.get("function_call")
    return [*calls, {"function": legacy}] if is_object(legacy) else calls


def _call(call: Mapping[str, Any]) -> Part:
    custom = object_or_empty(call.get("custom"))
    function = custom or object_or_empty(call.get("function"))
    arguments = function.get("input") if custom else function.get("arguments")
    return parts.call_part(id=call.get("id"), name=function.get("name"), arguments=arguments)
