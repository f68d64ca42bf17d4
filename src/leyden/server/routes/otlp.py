"""OpenTelemetry in: OTLP/HTTP traces as protobuf or JSON. Logs and metrics are answered, so that exporters stay quiet, and not kept."""

import asyncio
import time
from functools import partial

from leyden.asgi import Reply, header
from leyden.errors import BadFormat, LeydenError, StoreBusy, StoreFull, StoreUnwritable
from leyden.ingest import otlp, otlp_answers, otlp_json
from leyden.ingest.costs import with_costs
from leyden.ingest.filing import Limits
from leyden.ingest.prices import Overrides
from leyden.ingest.record import Decoded, Rejected
from leyden.server.hot import Call, Routes, takes
from leyden.store import spans

PROTOBUF = b"application/x-protobuf"
JSON = b"application/json"
# A body above this is decoded in a thread: it would hold up everybody else's requests for milliseconds.
INLINE_BYTES = 64 * 1024


OBJECT = {"type": "object"}


@takes(OBJECT, media=(PROTOBUF.decode(),))
async def traces(call: Call) -> Reply:
    """POST /v1/traces: answered once the spans are committed; spans that are refused are counted in `partial_success`."""
    kind = header(call.scope, b"content-type").split(";")[0].strip().lower().encode()
    if kind not in (PROTOBUF, JSON):
        return _status_reply(
            BadFormat(
                f"Content-Type {kind.decode()!r} is not OTLP",
                hint="send application/x-protobuf or application/json",
            ),
            PROTOBUF,
        )
    try:
        decoded = await _decode(call, kind)
        rejected = decoded.rejected + await _store(call, decoded)
    except LeydenError as error:
        return _status_reply(error, kind)
    body = (
        otlp_answers.response_protobuf(rejected) if kind == PROTOBUF else otlp_answers.response_json(rejected)
    )
    return Reply(200, body, kind)


async def _decode(call: Call, kind: bytes) -> Decoded:
    settings = call.context.settings
    limits = Limits(settings.max_span_bytes, settings.max_id_chars, settings.max_depth)
    run = partial(_decoded, call.body, kind, limits, await call.context.prices.ready(call.project))
    return run() if len(call.body) <= INLINE_BYTES else await asyncio.to_thread(run)


def _decoded(body: bytes, kind: bytes, limits: Limits, overrides: Overrides) -> Decoded:
    decode = otlp.decode_protobuf if kind == PROTOBUF else otlp_json.decode_json
    records, rejected = decode(body, limits=limits)
    return Decoded(with_costs(records, overrides), rejected)


async def _store(call: Call, decoded: Decoded) -> list[Rejected]:
    """Store what was decoded; what the store refused."""
    if not decoded.records:
        return []
    now, quiet_s = time.time(), call.context.settings.quiet_s
    stored = await call.context.store.writer.arun(
        lambda tx: spans.insert(tx, decoded.records, project=call.project, now=now, quiet_s=quiet_s),
        size=max(len(call.body), 1),
    )
    return [Rejected(index, reason) for index, reason in sorted(stored.refused.items())]


def _status_reply(error: LeydenError, kind: bytes) -> Reply:
    """An OTLP error. Exporters retry 503 and give up on 500, so what may pass by itself is a 503."""
    busy = isinstance(error, StoreBusy | StoreFull | StoreUnwritable)
    status = 503 if busy else error.status
    headers = ((b"retry-after", b"1"),) if busy else ()
    body = (
        otlp_answers.status_protobuf(error.message)
        if kind == PROTOBUF
        else otlp_answers.status_json(error.message)
    )
    return Reply(status, body, kind, headers)


@takes(OBJECT, media=(PROTOBUF.decode(),))
async def unkept(call: Call) -> Reply:
    """POST /v1/logs and /v1/metrics: accepted with a warning that nothing of it is kept."""
    kind = header(call.scope, b"content-type").split(";")[0].strip().lower().encode()
    what = call.scope["path"].rsplit("/", 1)[1]
    warning = f"{what} are not kept by this version of Leyden"
    if kind == JSON:
        return Reply(200, otlp_answers.warning_json(warning), JSON)
    return Reply(200, otlp_answers.warning_protobuf(warning), PROTOBUF)


HOT: Routes = {
    ("POST", "/v1/traces"): traces,
    ("POST", "/v1/logs"): unkept,
    ("POST", "/v1/metrics"): unkept,
}
