"""The little of HTTP that all routes share: reading a bounded body, answering JSON, answering errors.

Works on bare ASGI: the hot routes cannot afford a framework's request object, and the others get the same limits.
"""

import logging
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson
import zstandard
from pydantic import BaseModel, ValidationError

from leyden.errors import BadFormat, BadInput, LeydenError, StoreBusy, TooLarge
from leyden.ingest.nesting import refuse_deeper
from leyden.settings import Settings

log = logging.getLogger("leyden.server")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
# The most that RFC 9659 lets a sender use over HTTP.
ZSTD_WINDOW = 8 * 2**20
# What follows a member of a gzip body is copied at its end: by pieces it is little, and not for millions of empty members.
_PIECE_BYTES = 2**16
_MOST_MEMBERS = 1000

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S")


class Reply(NamedTuple):
    """An answer: status, body, media type and further headers."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_reply(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, orjson.dumps(value))


class Unprocessable(BadInput):
    """A body that is JSON but not of the shape a route takes; `detail` lists where, as FastAPI does."""

    code = "invalid_body"
    status = 422

    def __init__(self, message: str, detail: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.detail = detail


def error_reply(error: LeydenError) -> Reply:
    """An error as every route answers it; `detail` carries the text that clients of the store protocol look for."""
    detail: Any = error.detail if isinstance(error, Unprocessable) else error.message
    body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}, "detail": detail}
    # OpenTelemetry exporters give up when Retry-After is longer than their patience, so it is always one second.
    headers = ((b"retry-after", b"1"),) if isinstance(error, StoreBusy) or error.status == 429 else ()
    return Reply(error.status, orjson.dumps(body), headers=headers)


def unexpected_reply(error: BaseException) -> Reply:
    """An answer to what nobody foresaw: logged in full here, told without a traceback there."""
    log.error("unexpected %s", type(error).__name__, exc_info=error)
    return error_reply(LeydenError("The server failed unexpectedly", hint="its log says where"))


async def send_reply(send: Send, reply: Reply) -> None:
    """Write an answer."""
    length = str(len(reply.body)).encode()
    headers = [(b"content-type", reply.content_type), (b"content-length", length), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def raw_path(scope: Scope) -> str:
    """The path as it came, percent-encoded; without its query."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.decode("ascii", "replace").partition("?")[0]


def header(scope: Scope, name: bytes) -> str:
    """A request header in lower-case name, "" when absent."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return ""


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """The whole body, unzipped when it says gzip, deflate or zstd.

    Raises TooLarge beyond `limit` bytes, before or after unzipping; BadFormat when it is not that or of another encoding.
    """
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadFormat("The client left before its body was complete")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    encoding = header(scope, b"content-encoding").strip().lower()
    return unzip(body, encoding, limit=limit) if encoding not in ("", "identity") else body


def unzip(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Undo gzip (all of its members), deflate or zstd, never growing past `limit` bytes. Raises BadFormat, TooLarge."""
    if encoding == "zstd":
        return _unzip_zstd(body, limit=limit)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BadFormat(
            f"Content-Encoding {encoding!r} is not supported", hint="send gzip, zstd or no encoding"
        )
    view, plain = memoryview(body), list[bytes]()
    at = size = 0
    for _ in range(_MOST_MEMBERS):
        inflate = zlib.decompressobj(31 if "gzip" in encoding else 15)
        while not inflate.eof:
            piece = view[at : at + _PIECE_BYTES]
            if not piece:
                raise BadFormat(f"The {encoding} body ends in the middle")
            try:
                plain.append(inflate.decompress(piece, limit + 1 - size))
            except zlib.error as error:
                raise BadFormat(f"The body says {encoding} and is not: {error}") from error
            size += len(plain[-1])
            if size > limit:
                raise _too_large(limit)
            at += len(piece) - len(inflate.unused_data)
        if at == len(view):
            return plain[0] if len(plain) == 1 else b"".join(plain)
        if encoding == "deflate":
            raise BadFormat("The deflate body goes on after its end")
    raise BadFormat(f"The {encoding} body has more than {_MOST_MEMBERS} members")


def _unzip_zstd(body: bytes, *, limit: int) -> bytes:
    """One zstd frame. What it declares is looked at before anything is allocated; what declares nothing is read as a stream."""
    try:
        declared = zstandard.frame_content_size(body)
        if declared > limit:
            raise _too_large(limit)
        if declared >= 0:
            return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        unzipping = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        if len(unzipping.stream_reader(body).read(limit + 1)) > limit:
            raise _too_large(limit)
        # The stream does not say whether its frame was whole; this does, and is bounded now.
        inflate = unzipping.decompressobj()
        plain = inflate.decompress(body)
    except zstandard.ZstdError as error:
        raise BadFormat(f"The body says zstd and is not: {error}") from error
    if not inflate.eof or inflate.unused_data:
        raise BadFormat("The zstd body ends in the middle, or goes on after its end")
    return plain


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limit} bytes", hint="send less at once, or raise LEYDEN_MAX_BODY_BYTES"
    )


def decode(body: bytes, kind: type[S], settings: Settings) -> S:
    """JSON into a msgspec type. Raises BadFormat, TooLarge (nesting), Unprocessable (shape)."""
    refuse_deeper(body, settings.max_depth)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _unprocessable(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFormat(f"The body is not JSON: {error}") from None


def _unprocessable(said: str) -> Unprocessable:
    what, _, where = said.partition(" - at `$")
    path = [
        "body",
        *(part for part in where.rstrip("`").replace("[", ".").replace("]", "").split(".") if part),
    ]
    return Unprocessable(
        f"The body does not fit: {said}", [{"type": "value_error", "loc": path, "msg": what}]
    )


def decode_model(body: bytes, model: type[M], settings: Settings) -> M:
    """JSON into a pydantic model. Raises as `decode` does."""
    refuse_deeper(body, settings.max_depth)
    try:
        # Not left to pydantic, which takes NaN for JSON and integers of any length: neither could be written back.
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadFormat(f"The body is not JSON: {error}") from None
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise unfit(error, "body") from None


def unfit(error: ValidationError, part: str) -> Unprocessable:
    """A request whose `part` ("body" or "query") pydantic refused."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    detail = [{"type": e["type"], "loc": [part, *e["loc"]], "msg": e["msg"]} for e in found]
    where = ".".join(str(step) for step in detail[0]["loc"])
    return Unprocessable(f"The {part} does not fit: {where}: {detail[0]['msg']}", detail)


def check_id(value: str | None, what: str, settings: Settings) -> str | None:
    """An id that a client chose. Raises BadInput when it is empty, too long or holds NUL, which PostgreSQL refuses."""
    if value is None:
        return None
    if not value or len(value) > settings.max_id_chars or "\x00" in value:
        shown = value[:40].replace("\x00", "\\0")
        raise BadInput(
            f"{what} {shown!r} cannot be an id",
            hint=f"use 1 to {settings.max_id_chars} characters without NUL",
        )
    return value
