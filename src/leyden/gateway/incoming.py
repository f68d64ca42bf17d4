"""A request as it came in, as a `Call`: its body read, whose it is, which model it asks for.

Promises: what cannot be a call is one error that says what to do. Refuses to know: limits, upstreams, the record.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from leyden.asgi import Receive, Scope, header, read_body
from leyden.errors import BadFormat, LeydenError, TooLarge, WebSocketRefused
from leyden.gateway.call import Call, Family
from leyden.gateway.decoding import read_json
from leyden.gateway.doors import Address
from leyden.gateway.identity import Identities
from leyden.gateway.surfaces import is_shared, model_in_form
from leyden.ingest.nesting import is_deeper
from leyden.store.keys import KeyRow

# What is changed in a request has to be written again, and orjson writes 254 levels.
MAX_DEPTH = 200
# A million empty objects, three bytes each, take a hundred times their size once they are read.
MAX_VALUES, _FEW_BYTES = 1_000_000, 2**20


class Incoming:
    """Makes calls of requests, and remembers the sessions of those that name nothing."""

    def __init__(self, *, quiet_s: float, max_body_bytes: int) -> None:
        self._identities = Identities(quiet_s=quiet_s)
        self._max_body_bytes = max_body_bytes

    async def call(
        self, address: Address, scope: Scope, receive: Receive, *, project: str, key: KeyRow | None
    ) -> tuple[Call, LeydenError | None]:
        """The call of a request, and why it cannot be served when its body cannot be read: that is a call, too, and recorded.

        Raises BadInput for ids that nothing can be recorded under, and for a WebSocket.
        """
        began_ns = time.time_ns()
        body, asked, fault = b"", dict[str, Any](), None
        if scope["method"] != "GET":
            try:
                body = await read_body(scope, receive, limit=self._max_body_bytes)
                asked = _object(body) if address.door != "other" else _object_or_empty(body)
            except LeydenError as error:
                fault = error
        elif header(scope, b"upgrade"):
            raise WebSocketRefused("Models are called over plain HTTP here", hint="send the same as a POST")
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        known = dict(headers)
        if b"content-encoding" in known:  # the body was decoded
            headers = [(name, value) for name, value in headers if name != b"content-encoding"]
        call = Call(
            door=address.door,
            family=family_of(address, known),
            identity=self._identities.of(
                address,
                known,
                asked,
                project=project,
                key_id=None if key is None else key.id,
                key_rollout=_bound(key),
            ),
            method=scope["method"],
            path=address.path,
            query=scope.get("query_string", b""),
            headers=headers,
            body=body,
            asked=asked,
            model=_model(address, asked, body),
            is_stream=asked.get("stream") is True,
            began_ns=began_ns,
            key_id=None if key is None else key.id,
        )
        return call, fault


def family_of(address: Address, headers: Mapping[bytes, bytes]) -> Family:
    """Whose client it is: the door says so, but for what both APIs have."""
    return "anthropic" if is_shared(address.path) and b"anthropic-version" in headers else address.family


def _bound(key: KeyRow | None) -> tuple[str, str | None] | None:
    """The rollout and attempt that a key is for."""
    if key is None or key.limits.rollout_id is None:
        return None
    return key.limits.rollout_id, key.limits.attempt_id


def _model(address: Address, asked: Mapping[str, Any], body: bytes) -> str:
    if address.door == "models":
        return unquote(address.path.removeprefix("/models").strip("/"))
    model = address.model or asked.get("model")
    if model is None and address.door == "other":
        return model_in_form(body)
    return model if isinstance(model, str) else ""


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > _FEW_BYTES and body.count(b"{") + body.count(b"[") > MAX_VALUES:
        raise TooLarge(f"The body holds more than {MAX_VALUES} objects and lists", hint="send less at once")
    if is_deeper(body, MAX_DEPTH):
        raise TooLarge(f"The body nests deeper than {MAX_DEPTH} levels", hint="flatten it")
    asked = read_json(body)
    if asked is None:
        raise BadFormat("The body is not JSON", hint="send what the API of the model takes")
    if not isinstance(asked, dict):
        raise BadFormat("The body is JSON, but no object", hint="send what the API of the model takes")
    return asked  # pyright: ignore[reportUnknownVariableType]


def _object_or_empty(body: bytes) -> dict[str, Any]:
    """A body that may as well be a form, or nothing: what is no JSON object says nothing, and passes as it is."""
    try:
        return _object(body) if body.lstrip()[:1] == b"{" else {}
    except BadFormat:
        return {}
