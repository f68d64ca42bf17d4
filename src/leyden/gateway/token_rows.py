"""Token ids and logprobs of an answer, wherever its upstream puts them. Pure, and raises on nothing.

vLLM: `prompt_token_ids` at the top or in the choice, `token_ids` in the choice. LiteLLM and Tinker: the choice's
`provider_specific_fields`. Older vLLM: `response_token_ids` at the top, a list per choice.
"""

from collections.abc import Mapping
from typing import Any

from leyden.ingest.shapes import is_list, is_object, list_or_empty, object_or_empty


def prompt_token_ids(body: Mapping[str, Any], choice: Mapping[str, Any]) -> list[int] | None:
    """The tokens of the prompt."""
    places = (body, choice, object_or_empty(choice.get("provider_specific_fields")))
    return _first(place.get("prompt_token_ids") for place in places)


def response_token_ids(body: Mapping[str, Any], choice: Mapping[str, Any]) -> list[int] | None:
    """The tokens of the first choice."""
    inner = object_or_empty(choice.get("provider_specific_fields"))
    of_message = object_or_empty(object_or_empty(choice.get("message")).get("provider_specific_fields"))
    older = body.get("response_token_ids")
    of_first = older[0] if is_list(older) and older and is_list(older[0]) else older
    return _first((choice.get("token_ids"), inner.get("token_ids"), of_message.get("token_ids"), of_first))


def completion_logprobs(logprobs: Any) -> list[dict[str, Any]] | None:
    """Logprobs as the chat API lists them; those of legacy completions, which are parallel lists, in the same form."""
    if not is_object(logprobs):
        return None
    content = logprobs.get("content")
    if is_list(content):
        return [entry for entry in content if is_object(entry)]
    tokens, values = list_or_empty(logprobs.get("tokens")), list_or_empty(logprobs.get("token_logprobs"))
    if not tokens:
        return None
    others = list_or_empty(logprobs.get("top_logprobs"))
    others = others + [None] * (len(tokens) - len(others))
    return [
        {"token": token, "logprob": value, "top_logprobs": _alternatives(other)}
        for token, value, other in zip(tokens, values, others, strict=False)
    ]


def _alternatives(other: Any) -> list[dict[str, Any]]:
    return [{"token": token, "logprob": value} for token, value in object_or_empty(other).items()]


def _first(places: Any) -> list[int] | None:
    return next((ids for ids in places if is_list(ids) and set(map(type, ids)) <= {int}), None)
