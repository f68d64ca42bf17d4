"""One question to a model behind a gateway, and its answer's text: OpenAI's chat completions over HTTP.

Promises: a call made inside a rollout belongs to it, and hangs below the span around it. Refuses to know: which provider answers.
"""

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httpx
from opentelemetry.trace import get_current_span

from leyden.errors import LeydenError, UpstreamBroken, UpstreamError, UpstreamUnreachable
from leyden.sdk.context import bound

Messages = str | Sequence[Mapping[str, Any]]
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# The gateway has limits of its own for each phase; this one is for a gateway that is gone.
TIMEOUT_S = 3600.0


class Completions:
    """A model behind a gateway. base_url: ends in /v1. session: joins calls that are made outside rollouts. A context manager."""

    def __init__(self, base_url: str, *, model: str, session: str, key: str = "") -> None:
        self.model = model
        self._session, self._key = session, key
        self._options: dict[str, Any] = {
            "base_url": base_url,
            # A proxy from the environment is for the outside world.
            "trust_env": urlsplit(base_url).hostname not in _LOOPBACK,
            "timeout": httpx.Timeout(TIMEOUT_S, connect=10.0),
        }
        self._http = httpx.Client(**self._options)

    def complete(self, messages: Messages, **parameters: Any) -> str:
        """The text of the answer. messages: a question, or chat messages; parameters as the API has them (temperature, …).

        Raises UpstreamError with what the model server said, UpstreamUnreachable where no gateway answers.
        """
        try:
            answer = self._http.post(
                "/chat/completions", json=self._body(messages, parameters), headers=self._headers()
            )
        except httpx.TransportError as error:
            raise _unreachable(error) from error
        return _text_of(answer)

    async def acomplete(self, messages: Messages, **parameters: Any) -> str:
        """The same without blocking the event loop."""
        body, headers = self._body(messages, parameters), self._headers()
        try:
            # A connection for each call: one that is kept would belong to the event loop that made it.
            async with httpx.AsyncClient(**self._options) as http:
                answer = await http.post("/chat/completions", json=body, headers=headers)
        except httpx.TransportError as error:
            raise _unreachable(error) from error
        return _text_of(answer)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(self, messages: Messages, parameters: Mapping[str, Any]) -> dict[str, Any]:
        asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        return {"model": self.model, **parameters, "messages": asked, "stream": False}

    def _headers(self) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        here, span = bound(), get_current_span().get_span_context()
        if span.is_valid:
            headers["traceparent"] = f"00-{span.trace_id:032x}-{span.span_id:016x}-01"
        if here is None:
            return headers | {"x-leyden-session": self._session}
        return headers | {"x-leyden-rollout": here.rollout_id, "x-leyden-attempt": here.attempt_id}


def _unreachable(error: Exception) -> UpstreamUnreachable:
    return UpstreamUnreachable(f"The gateway does not answer ({type(error).__name__})")


def _text_of(answer: httpx.Response) -> str:
    try:
        body: Any = json.loads(answer.content)
    except ValueError:
        body = None
    told = cast(dict[str, Any], body) if isinstance(body, dict) else {}
    if answer.status_code >= 400:
        raise _refusal(told, answer.status_code)
    try:
        return told["choices"][0]["message"]["content"] or ""
    except (KeyError, IndexError, TypeError):
        raise UpstreamBroken("The model server answered with something that is no chat completion") from None


def _refusal(told: Mapping[str, Any], status: int) -> LeydenError:
    error = told.get("error")
    message = cast(dict[str, Any], error).get("message") if isinstance(error, dict) else error
    return UpstreamError(f"The model server answered {status}: {message or 'it gave no reason'}")
