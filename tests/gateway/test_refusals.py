"""Errors of ours raise in the official clients what those clients raise for their own provider."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import anthropic
import openai
import pytest

from leyden.errors import (
    BadInput,
    BudgetSpent,
    Forbidden,
    LeydenError,
    ModelNotAllowed,
    NotFound,
    RateLimited,
    StoreBusy,
    TooLarge,
    Unauthorized,
)
from leyden.gateway.call import Family
from leyden.gateway.refusals import refusal

LIMITED = RateLimited("Too many calls", hint="try again in 7 s", retry_after_s=6.2)
ERRORS = [
    (BadInput("Odd body", hint="send another"), "BadRequestError"),
    (Unauthorized("No key", hint="make one"), "AuthenticationError"),
    (BudgetSpent("All money is spent", hint="ask for more"), "APIStatusError"),
    (Forbidden("Not yours", hint="use your own"), "PermissionDeniedError"),
    (ModelNotAllowed("Not this model", hint="use gpt-4o"), "PermissionDeniedError"),
    (NotFound("No such model", hint="see /v1/models"), "NotFoundError"),
    (TooLarge("Too large", hint="send less"), "APIStatusError"),
    (LIMITED, "RateLimitError"),
    (StoreBusy("Busy", hint="try again"), "InternalServerError"),
    (LeydenError("It broke", hint="its log says where"), "InternalServerError"),
]


@contextmanager
def refusing(error: LeydenError, family: Family) -> Iterator[str]:
    """A server that turns every call away with an error of ours."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, headers, body = refusal(error, family)
            self.send_response(status)
            for name, value in (*headers, (b"content-length", str(len(body)).encode())):
                self.send_header(name.decode(), value.decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("error", "name"), ERRORS, ids=lambda each: getattr(each, "code", each))
def test_the_openai_client_raises_its_own_class_with_our_words(error: LeydenError, name: str) -> None:
    with (
        refusing(error, "openai") as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="lk_x", max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(model="m", messages=[])
    assert isinstance(caught.value, getattr(openai, name))
    assert error.message in caught.value.message
    assert error.hint is not None
    assert error.hint in caught.value.message
    assert caught.value.code == error.code
    assert caught.value.status_code == error.status
    assert caught.value.response.headers.get("retry-after") == {429: "7", 503: "1"}.get(error.status)


@pytest.mark.parametrize(("error", "name"), ERRORS, ids=lambda each: getattr(each, "code", each))
def test_the_anthropic_client_raises_its_own_class_with_our_words(error: LeydenError, name: str) -> None:
    with (
        refusing(error, "anthropic") as url,
        anthropic.Anthropic(base_url=url, api_key="lk_x", max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
    assert isinstance(caught.value, getattr(anthropic, name))
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["message"] == f"{error.message}; {error.hint}"
    assert caught.value.status_code == error.status
    assert caught.value.response.headers.get("retry-after-ms") == {429: "6200", 503: "1000"}.get(error.status)


def test_the_parameter_at_fault_is_named_where_the_protocol_has_a_place_for_it() -> None:
    _, _, body = refusal(ModelNotAllowed("Not this model"), "openai")
    assert json.loads(body) == {
        "error": {
            "message": "Not this model",
            "type": "permission_error",
            "param": "model",
            "code": "model_not_allowed",
        }
    }


def test_recorded_text_of_any_kind_makes_valid_json() -> None:
    for family in ("openai", "anthropic"):
        _, _, body = refusal(BadInput('a "b" \ud800 \0'), family)
        assert "error" in json.loads(body)
