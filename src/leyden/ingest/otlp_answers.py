"""What an OTLP exporter is answered, in protobuf and in JSON."""

import orjson

from leyden.ingest import wire
from leyden.ingest.record import Rejected
from leyden.ingest.text import column

_REASONS_TOLD = 5


def response_protobuf(rejected: list[Rejected]) -> bytes:
    """An ExportTraceServiceResponse; with `partial_success` only when something was rejected."""
    if not rejected:
        return b""
    told = wire.ResponseMessage()
    told.partial_success.rejected_spans = len(rejected)
    told.partial_success.error_message = _why(rejected)
    return told.SerializeToString()


def response_json(rejected: list[Rejected]) -> bytes:
    """The same answer as JSON; the count is a string, as protobuf's JSON writes 64-bit integers."""
    if not rejected:
        return b"{}"
    return orjson.dumps(
        {"partialSuccess": {"rejectedSpans": str(len(rejected)), "errorMessage": _why(rejected)}}
    )


def _why(rejected: list[Rejected]) -> str:
    told = "; ".join(f"span {index}: {reason}" for index, reason in rejected[:_REASONS_TOLD])
    more = len(rejected) - _REASONS_TOLD
    return column(f"{told}; and {more} more" if more > 0 else told, 4000) or ""


def status_protobuf(message: str, code: int = 3) -> bytes:
    """A google.rpc.Status, the body of a refused protobuf request. Code 3 is INVALID_ARGUMENT."""
    return wire.StatusMessage(code=code, message=column(message, 4000) or "").SerializeToString()


def status_json(message: str, code: int = 3) -> bytes:
    """The same as JSON."""
    return orjson.dumps({"code": code, "message": message})


def warning_protobuf(message: str) -> bytes:
    """An export response that accepted everything and has something to say: nothing rejected, a message. Fits every signal."""
    text = message.encode()
    inner = b"\x12" + wire.length(len(text)) + text
    return b"\x0a" + wire.length(len(inner)) + inner


def warning_json(message: str) -> bytes:
    """The same as JSON."""
    return orjson.dumps({"partialSuccess": {"errorMessage": message}})
