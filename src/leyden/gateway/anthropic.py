"""Anthropic's messages and token counting: how requests and answers read. Pure, and raises on nothing."""

from collections.abc import Mapping
from typing import Any

from leyden.gateway import parts
from leyden.gateway.anthropic_stream import MessageAssembler
from leyden.gateway.counts import messages_usage
from leyden.gateway.error_bodies import error_of, only_error
from leyden.gateway.parts import Part, text_of
from leyden.gateway.reading import Asked, Assembler, Said
from leyden.gateway.request_fields import asked_of
from leyden.gateway.translate.outcome import FINISH_REASONS
from leyden.ingest.shapes import is_object, list_or_empty, object_or_empty


class Messages:
    """Messages."""

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request says. A tool's result is a part of the user's message here, and a message of its own in `prompt`."""
        system = parts.parts(body.get("system"))
        messages = [
            _message(message) for message in list_or_empty(body.get("messages")) if is_object(message)
        ]
        prompt = [parts.chat_message("system", system)] if system else []
        for message in messages:
            prompt += _chat_messages(message["role"], message["parts"])
        return asked_of(body, messages=messages, system=system, prompt=prompt)

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer says. `messages` has the stop reason in Anthropic's word, `completion` in OpenAI's."""
        if not is_object(body):
            return only_error(body)
        reason = text_of(body.get("stop_reason"))
        found = parts.parts(body.get("content"))
        ends = {"finish_reason": reason} if reason else {}
        chat_ends = {"finish_reason": FINISH_REASONS.get(reason, reason)} if reason else {}
        usage = body.get("usage")
        is_message = bool(found or reason)
        return Said(
            id=text_of(body.get("id")),
            model=text_of(body.get("model")),
            finish_reasons=(reason,) if reason else (),
            usage=messages_usage(usage),
            messages=[{"role": "assistant", "parts": found, **ends}] if is_message else [],
            completion=[{**parts.chat_message("assistant", found), **chat_ends}] if is_message else [],
            service_tier=text_of(object_or_empty(usage).get("service_tier")),
            error=error_of(body),
        )

    def assembler(self) -> Assembler:
        """For one stream."""
        return MessageAssembler()


class CountTokens(Messages):
    """Token counting: the request of messages; the answer is a number and nothing that was used, so no usage."""

    def said(self, body: Mapping[str, Any]) -> Said:
        """What an answer says: nothing, or an error."""
        return only_error(body)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": text_of(message.get("role")) or "user", "parts": parts.parts(message.get("content"))}


def _chat_messages(role: str, found: list[Part]) -> list[dict[str, Any]]:
    results = parts.chat_results(found)
    others = [part for part in found if part["type"] != "tool_call_response"]
    return results if results and not others else [*results, parts.chat_message(role, others)]
