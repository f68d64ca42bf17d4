"""Drives the published Agent Lightning 0.3 client against a store server and checks what comes back.

Runs in a Python that has `agentlightning` (see prepare.py), never in ours: the client under test is the one its users
have. It knows the server by its address alone, so the same checks run against `agl store`, which shows that the
expectations are right, and against `leyden up`, which shows that Leyden keeps them.

    python drive_client.py http://127.0.0.1:4747                       every check must hold
    python drive_client.py http://127.0.0.1:4747 --allow-known all     for `agl store`: flaws that Leyden mends may show

One line per check; the exit code is the number of checks that failed (at most 100).
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import re
import sys
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("AGENTOPS_TELEMETRY", "false")

import agentlightning as al
import aiohttp
from agentlightning.utils.otlp import LightningStoreOTLPExporter
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

# What upstream gets wrong and Leyden mends on purpose; reference: the state machine and error rules of the store protocol.
KNOWN_FLAWS = {
    "terminal": "a late attempt update resurrects a finished rollout",
    "stale-end": "a re-opened rollout keeps its old end_time",
    "cancel": "cancelling leaves the attempt open and the worker busy",
    "revive": "an attempt that ended can be set running again",
    "error-500": "an unknown id is answered 500 with a traceback",
    "all-or-nothing": "one span of an unknown rollout loses its whole OTLP batch",
    "unnamed-trace": "a trace that names no rollout is dropped",
    "otlp-json": "OTLP is accepted as protobuf only",
    "span-kind": "the kind and scope of an OTLP span are lost",
    "or-empty": "filter_logic=or without filters returns nothing",
    "dashboard": "mode_in is ignored and sort names the dashboard uses are refused",
    "idle-watchdog": "timeouts are noticed only when somebody calls",
}


@dataclass
class Drive:
    """What every check gets: the client, an impatient one for calls that must fail, raw HTTP and the base address."""

    client: al.LightningStoreClient
    impatient: al.LightningStoreClient
    http: aiohttp.ClientSession
    url: str

    @property
    def api(self) -> str:
        return f"{self.url}/v1/agl"


@dataclass
class Check:
    """One promise: its sentence is the function's name; `flaw` names the upstream flaw that would break it."""

    run: Callable[[Drive], Awaitable[None]]
    flaw: str | None

    @property
    def sentence(self) -> str:
        return self.run.__name__.replace("_", " ")


CHECKS: list[Check] = []


def check(run: Callable[[Drive], Awaitable[None]]) -> Callable[[Drive], Awaitable[None]]:
    CHECKS.append(Check(run, None))
    return run


def mends(flaw: str) -> Callable[[Callable[[Drive], Awaitable[None]]], Callable[[Drive], Awaitable[None]]]:
    """A check that upstream is known to fail because of `flaw`."""
    if flaw not in KNOWN_FLAWS:
        raise KeyError(flaw)

    def register(run: Callable[[Drive], Awaitable[None]]) -> Callable[[Drive], Awaitable[None]]:
        CHECKS.append(Check(run, flaw))
        return run

    return register


def equal(got: Any, want: Any, what: str = "value") -> None:
    if got != want or type(got) is not type(want):
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def true(fact: Any, what: str) -> None:
    if not fact:
        raise AssertionError(what)


async def refused(call: Awaitable[Any], *, status: int | None = None) -> None:
    """The client must raise on this call; `status` pins the HTTP status where the protocol does."""
    try:
        got = await call
    except aiohttp.ClientResponseError as error:
        if status is not None:
            equal(error.status, status, "HTTP status")
        return
    except (ValueError, RuntimeError, aiohttp.ClientError):
        return
    raise AssertionError(f"accepted, returned {got!r}")


def token() -> str:
    return uuid.uuid4().hex


def span(
    rollout_id: str, attempt_id: str, *, sequence_id: int = 1, name: str = "step", **over: Any
) -> al.Span:
    fields: dict[str, Any] = {
        "rollout_id": rollout_id,
        "attempt_id": attempt_id,
        "sequence_id": sequence_id,
        "trace_id": token(),
        "span_id": token()[:16],
        "parent_id": None,
        "name": name,
        "status": {"status_code": "OK", "description": None},
        "attributes": {},
        "events": [],
        "links": [],
        "start_time": 1000.25,
        "end_time": 1001.75,
        "context": None,
        "parent": None,
        "resource": {"attributes": {}, "schema_url": ""},
    }
    return al.Span.model_validate(fields | over)


def otel_span(name: str = "work", **attributes: Any) -> ReadableSpan:
    tracer = TracerProvider(resource=Resource.create({"service.name": "compat"})).get_tracer(
        "compat.scope", "1.2"
    )
    with tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes) as recorded:
        recorded.add_event("tick", {"n": 1})
        recorded.set_status(Status(StatusCode.ERROR, "boom"))
    return recorded  # type: ignore[return-value]


async def started(d: Drive, **kw: Any) -> tuple[str, str]:
    rollout = await d.client.start_rollout(input={"task": token()}, **kw)
    return rollout.rollout_id, rollout.attempt.attempt_id


async def emptied(d: Drive) -> None:
    """Take whatever lies in the queue, so that the next dequeue meets only what the check enqueued."""
    while await d.client.dequeue_many_rollouts(limit=100):
        pass


async def fresh_rollout(d: Drive, rollout_id: str) -> Any:
    rollout = await d.client.get_rollout_by_id(rollout_id)
    true(rollout is not None, f"{rollout_id} is gone")
    return rollout


async def soon(what: str, fact: Callable[[], Awaitable[bool]], *, timeout_s: float = 15.0) -> None:
    """Poll until the fact holds. Upstream's watchdog scans at most every 10 s, on a call."""
    deadline = time.monotonic() + timeout_s
    while not await fact():
        true(time.monotonic() < deadline, f"{what}: not within {timeout_s} s")
        await asyncio.sleep(0.1)


async def raw(d: Drive, method: str, path: str, **kw: Any) -> tuple[int, Any]:
    async with d.http.request(
        method, f"{d.api}/{path}" if not path.startswith("/") else d.url + path, **kw
    ) as answer:
        body = await answer.read()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(body)
        return answer.status, body


# ── The store itself ─────────────────────────────────────────────────────────────────────────────────────────────


@check
async def health_answers_ok(d: Drive) -> None:
    equal(await raw(d, "GET", "health"), (200, {"status": "ok"}))


@check
async def capabilities_are_all_true_over_http(d: Drive) -> None:
    equal(
        dict(d.client.capabilities),
        {"thread_safe": True, "async_safe": True, "zero_copy": True, "otlp_traces": True},
    )


@check
async def the_otlp_endpoint_lies_at_the_root(d: Drive) -> None:
    equal(d.client.otlp_traces_endpoint(), f"{d.url}/v1/traces")


@check
async def statistics_move_by_one_per_thing_created(d: Drive) -> None:
    before = await d.client.statistics()
    rollout_id, attempt_id = await started(d)
    await d.client.add_span(span(rollout_id, attempt_id))
    await d.client.add_resources({"p": al.PromptTemplate(template="x", engine="f-string")})
    await d.client.update_worker(f"w-{token()}", {"cpu": 1})
    after = await d.client.statistics()
    for key in ("rollouts", "attempts", "spans", "resources", "workers"):
        equal(after[f"total_{key}"] - before[f"total_{key}"], 1, f"total_{key}")
    true(after["uptime"] > before["uptime"], "uptime does not grow")
    true(isinstance(after["name"], str), "name is not a string")


# ── Rollouts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@check
async def a_started_rollout_is_preparing_with_attempt_one_and_never_queued(d: Drive) -> None:
    await emptied(d)
    before = time.time()
    rollout = await d.client.start_rollout(input={"q": 1}, mode="train", worker_id=f"w-{token()}")
    equal(rollout.status, "preparing", "status")
    equal(rollout.attempt.status, "preparing", "attempt status")
    equal(rollout.attempt.sequence_id, 1, "attempt number")
    equal(rollout.attempt.rollout_id, rollout.rollout_id)
    equal(rollout.attempt.end_time, None)
    equal(rollout.attempt.last_heartbeat_time, None)
    equal(rollout.attempt.metadata, None)
    equal(rollout.metadata, {}, "metadata")
    equal(rollout.mode, "train")
    equal(rollout.end_time, None)
    true(re.fullmatch(r"ro-[0-9a-f]{12}", rollout.rollout_id), f"rollout id {rollout.rollout_id}")
    true(
        re.fullmatch(r"at-[0-9a-f]{8}", rollout.attempt.attempt_id),
        f"attempt id {rollout.attempt.attempt_id}",
    )
    true(before - 1 <= rollout.start_time <= time.time() + 1, "start_time is not now in seconds")
    equal(await d.client.dequeue_rollout(), None, "dequeue")


@check
async def an_enqueued_rollout_is_queuing_and_has_no_attempt(d: Drive) -> None:
    rollout = await d.client.enqueue_rollout(input="hello", metadata={"k": [1, {"x": None}]})
    equal(type(rollout), al.Rollout, "type")
    equal(rollout.status, "queuing")
    equal(rollout.metadata, {"k": [1, {"x": None}]})
    equal(rollout.config.max_attempts, 1)
    equal(rollout.config.timeout_seconds, None)
    equal(list(rollout.config.retry_condition), [])
    equal(type(await fresh_rollout(d, rollout.rollout_id)), al.Rollout, "type when read")
    _, wire = await raw(d, "GET", f"rollouts/{rollout.rollout_id}")
    true("attempt" not in wire, "the key attempt is on the wire of a plain rollout")
    for key in ("end_time", "mode", "resources_id"):
        true(key in wire or key == "resources_id", f"the nullable key {key} is missing")
    equal((await d.client.query_attempts(rollout.rollout_id)).total, 0, "attempts")


@check
async def inputs_of_every_json_kind_come_back_equal(d: Drive) -> None:
    for value in (
        None,
        True,
        0,
        -1.5,
        2**53,
        "",
        "naïve 🦤 \u2028",
        [],
        {},
        [1, [2, {"a": None}]],
        {"a": {"b": [1.0]}},
    ):
        rollout = await d.client.enqueue_rollout(input=value)
        read = await fresh_rollout(d, rollout.rollout_id)
        equal(json.dumps(read.input), json.dumps(value), "input")


@check
async def many_enqueued_rollouts_come_back_in_order_with_every_field(d: Drive) -> None:
    config = al.RolloutConfig(
        timeout_seconds=12.5, unresponsive_seconds=3.25, max_attempts=4, retry_condition=["failed", "timeout"]
    )
    requests = [
        al.EnqueueRolloutRequest(
            input={"i": i}, mode=mode, resources_id=f"v{i}", config=config, metadata={"i": i}
        )
        for i, mode in enumerate(("train", "val", "test", None))
    ]
    rollouts = await d.client.enqueue_many_rollouts(requests)
    equal([r.input for r in rollouts], [{"i": i} for i in range(4)])
    equal([r.mode for r in rollouts], ["train", "val", "test", None])
    equal(
        [r.resources_id for r in rollouts], ["v0", "v1", "v2", "v3"], "ids nobody knows are taken as they are"
    )
    read = await fresh_rollout(d, rollouts[2].rollout_id)
    equal(read.config.model_dump(), config.model_dump(), "config")
    equal(read.metadata, {"i": 2})
    equal(read.start_time, rollouts[2].start_time, "start_time")
    equal(list(await d.client.enqueue_many_rollouts([])), [], "nothing enqueued")


@check
async def the_queue_is_first_in_first_out_and_empty_is_none(d: Drive) -> None:
    await emptied(d)
    ids = [(await d.client.enqueue_rollout(input=i)).rollout_id for i in range(3)]
    taken = [await d.client.dequeue_rollout() for _ in range(3)]
    equal([r.rollout_id for r in taken if r], ids, "order")
    true(taken[0] is not None, "nothing came")
    equal(taken[0].status, "preparing")
    equal(taken[0].attempt.status, "preparing")
    equal(taken[0].attempt.sequence_id, 1)
    equal(await d.client.dequeue_rollout(), None, "empty queue")
    equal(list(await d.client.dequeue_many_rollouts(limit=5)), [], "empty queue")


@check
async def dequeue_many_takes_at_most_the_limit_and_links_the_worker_to_the_last(d: Drive) -> None:
    await emptied(d)
    ids = [
        r.rollout_id
        for r in await d.client.enqueue_many_rollouts([al.EnqueueRolloutRequest(input=i) for i in range(5)])
    ]
    worker = f"w-{token()}"
    first = await d.client.dequeue_many_rollouts(limit=3, worker_id=worker)
    equal([r.rollout_id for r in first], ids[:3])
    true(all(r.attempt.worker_id == worker for r in first), "an attempt lacks its worker")
    seen = await d.client.get_worker_by_id(worker)
    true(seen is not None, "worker is unknown")
    equal(seen.status, "busy")
    equal(seen.current_rollout_id, ids[2])
    equal(seen.current_attempt_id, first[2].attempt.attempt_id)
    rest = await d.client.dequeue_many_rollouts(limit=10, worker_id=worker)
    equal([r.rollout_id for r in rest], ids[3:])


@check
async def dequeue_without_a_body_takes_one(d: Drive) -> None:
    await emptied(d)
    rollout = await d.client.enqueue_rollout(input=1)
    status, taken = await raw(d, "POST", "queues/rollouts/dequeue")
    equal(status, 200)
    equal([r["rollout_id"] for r in taken], [rollout.rollout_id])
    equal(await raw(d, "POST", "queues/rollouts/dequeue", json={"limit": 0}), (200, []), "limit 0")


@check
async def dequeue_skips_rollouts_that_left_the_queue(d: Drive) -> None:
    await emptied(d)
    ids = [(await d.client.enqueue_rollout(input=i)).rollout_id for i in range(3)]
    await d.client.update_rollout(ids[0], status="cancelled")
    await d.client.start_attempt(ids[1])
    taken = await d.client.dequeue_many_rollouts(limit=3)
    equal([r.rollout_id for r in taken], [ids[2]])


@check
async def setting_a_rollout_requeuing_puts_it_at_the_tail(d: Drive) -> None:
    await emptied(d)
    first, second = [(await d.client.enqueue_rollout(input=i)).rollout_id for i in range(2)]
    equal((await d.client.dequeue_rollout()).rollout_id, first)  # type: ignore[union-attr]
    equal((await d.client.update_rollout(first, status="requeuing")).status, "requeuing")
    taken = await d.client.dequeue_many_rollouts(limit=5)
    equal([r.rollout_id for r in taken], [second, first])
    equal(taken[1].attempt.sequence_id, 2, "attempt number after requeue")


@check
async def update_rollout_writes_what_is_given_and_leaves_the_rest(d: Drive) -> None:
    rollout_id, _ = await started(d, mode="val", metadata={"a": 1})
    same = await d.client.update_rollout(rollout_id)
    equal(same.mode, "val", "mode after an empty update")
    changed = await d.client.update_rollout(
        rollout_id, input=[1], metadata=None, mode=None, resources_id="v9"
    )
    equal(type(changed), al.Rollout, "an update answers a plain rollout")
    equal((changed.input, changed.metadata, changed.mode, changed.resources_id), ([1], None, None, "v9"))
    equal(changed.status, "preparing", "status")
    config = al.RolloutConfig(max_attempts=7)
    equal((await d.client.update_rollout(rollout_id, config=config)).config.max_attempts, 7)
    read = await fresh_rollout(d, rollout_id)
    equal((read.input, read.metadata, read.config.max_attempts), ([1], None, 7), "as read back")
    for key in ("status", "config"):
        status, body = await raw(d, "POST", f"rollouts/{rollout_id}", json={key: None})
        equal(status, 400, f"null {key}")
        true("cannot be a null value" in body["detail"], f"detail {body}")


@check
async def a_finished_status_sets_end_time(d: Drive) -> None:
    for status in ("succeeded", "failed", "cancelled"):
        rollout_id, _ = await started(d)
        rollout = await d.client.update_rollout(rollout_id, status=status)  # type: ignore[arg-type]
        equal(rollout.status, status)
        true(
            rollout.end_time is not None and rollout.end_time >= rollout.start_time, f"{status}: no end_time"
        )


@check
async def an_unknown_rollout_reads_as_none(d: Drive) -> None:
    equal(await d.impatient.get_rollout_by_id("ro-nobody"), None)
    equal(await d.impatient.get_latest_attempt("ro-nobody"), None)


@check
async def changes_to_an_unknown_rollout_are_refused(d: Drive) -> None:
    rollout_id, _ = await started(d)
    await refused(d.impatient.update_rollout("ro-nobody", input=1))
    await refused(d.impatient.start_attempt("ro-nobody"))
    await refused(d.impatient.update_attempt("ro-nobody", "latest", status="running"))
    await refused(d.impatient.update_attempt(rollout_id, "at-nobody", status="running"))
    queued = await d.client.enqueue_rollout(input=1)
    await refused(d.impatient.update_attempt(queued.rollout_id, "latest", status="running"))


@mends("error-500")
async def an_unknown_id_is_a_404_whose_detail_says_which(d: Drive) -> None:
    rollout_id, _ = await started(d)
    queued = (await d.client.enqueue_rollout(input=1)).rollout_id
    body = span("ro-nobody", "at-x").model_dump(mode="json")
    wrong_attempt = span(rollout_id, "at-nobody").model_dump(mode="json")
    for path, payload, text in (
        ("rollouts/ro-nobody", {"input": 1}, r"Item.*does not exist|Rollout ro-nobody not found"),
        ("rollouts/ro-nobody/attempts", {}, r"Rollout ro-nobody not found"),
        ("rollouts/ro-nobody/attempts/latest", {"status": "running"}, r"Rollout ro-nobody not found"),
        (
            f"rollouts/{rollout_id}/attempts/at-nobody",
            {"status": "running"},
            rf"Attempt at-nobody not found for rollout {rollout_id}",
        ),
        (
            f"rollouts/{queued}/attempts/latest",
            {"status": "running"},
            rf"No attempts found for rollout {queued}",
        ),
        ("spans", body, r"Rollout ro-nobody not found"),
        ("spans", wrong_attempt, rf"Attempt at-nobody not found for rollout {rollout_id}"),
    ):
        status, answer = await raw(d, "POST", path, json=payload)
        equal(status, 404, f"status of {path}")
        true(re.search(text, answer["detail"]), f"{path}: detail {answer['detail']!r}")
        true("traceback" not in answer, "a traceback leaks")
    status, answer = await raw(d, "GET", "rollouts/ro-nobody")
    true(status == 404 or (status, answer) == (200, None), f"GET of a missing rollout: {status}")


# ── Attempts and the state machine ───────────────────────────────────────────────────────────────────────────────


@check
async def a_span_wakes_attempt_and_rollout(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    await d.client.add_span(span(rollout_id, attempt_id))
    rollout = await fresh_rollout(d, rollout_id)
    equal((rollout.status, rollout.attempt.status), ("running", "running"))
    true(abs(rollout.attempt.last_heartbeat_time - time.time()) < 5, "the heartbeat is not now")


@check
async def a_succeeded_attempt_ends_its_rollout(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    attempt = await d.client.update_attempt(rollout_id, attempt_id, status="succeeded")
    equal(attempt.status, "succeeded")
    true(attempt.end_time is not None, "attempt has no end_time")
    rollout = await fresh_rollout(d, rollout_id)
    equal(rollout.status, "succeeded")
    true(rollout.end_time is not None, "rollout has no end_time")


@check
async def a_failed_attempt_without_retries_fails_its_rollout(d: Drive) -> None:
    for status in ("failed", "timeout", "unresponsive"):
        rollout_id, attempt_id = await started(d)
        attempt = await d.client.update_attempt(rollout_id, attempt_id, status=status)  # type: ignore[arg-type]
        equal(attempt.end_time is not None, status == "failed", f"{status}: end_time given")
        equal((await fresh_rollout(d, rollout_id)).status, "failed", status)


@check
async def a_failed_attempt_is_retried_until_max_attempts(d: Drive) -> None:
    await emptied(d)
    config = al.RolloutConfig(max_attempts=2, retry_condition=["failed"])
    rollout_id = (await d.client.enqueue_rollout(input=1, config=config)).rollout_id
    first = await d.client.dequeue_rollout()
    true(first is not None, "nothing came")
    await d.client.update_attempt(rollout_id, first.attempt.attempt_id, status="failed")
    waiting = await fresh_rollout(d, rollout_id)
    equal((waiting.status, waiting.end_time), ("requeuing", None))
    second = await d.client.dequeue_rollout()
    true(second is not None, "the retry never came")
    equal((second.rollout_id, second.attempt.sequence_id, second.status), (rollout_id, 2, "preparing"))
    await d.client.update_attempt(rollout_id, "latest", status="failed")
    equal((await fresh_rollout(d, rollout_id)).status, "failed", "after the last attempt")
    equal(await d.client.dequeue_rollout(), None, "nothing is left to do")
    attempts = await d.client.query_attempts(rollout_id)
    equal([a.sequence_id for a in attempts], [1, 2])


@check
async def only_the_listed_conditions_are_retried(d: Drive) -> None:
    config = al.RolloutConfig(max_attempts=3, retry_condition=["timeout"])
    rollout_id, attempt_id = await started(d, config=config)
    await d.client.update_attempt(rollout_id, attempt_id, status="failed")
    equal((await fresh_rollout(d, rollout_id)).status, "failed")
    rollout_id, attempt_id = await started(d, config=config)
    await d.client.update_attempt(rollout_id, attempt_id, status="timeout")
    equal((await fresh_rollout(d, rollout_id)).status, "requeuing")


@check
async def start_attempt_adds_one_whatever_max_attempts_says(d: Drive) -> None:
    rollout_id, first = await started(d)
    worker = f"w-{token()}"
    again = await d.client.start_attempt(rollout_id, worker_id=worker)
    equal((again.status, again.attempt.status, again.attempt.sequence_id), ("preparing", "preparing", 2))
    equal(again.attempt.worker_id, worker)
    true(again.attempt.attempt_id != first, "the same attempt id again")
    latest = await d.client.get_latest_attempt(rollout_id)
    true(latest is not None, "no latest attempt")
    equal(latest.attempt_id, again.attempt.attempt_id)
    status, body = await raw(d, "POST", f"rollouts/{rollout_id}/attempts")
    equal((status, body["attempt"]["sequence_id"]), (201, 3), "without a body")


@check
async def a_superseded_attempt_never_touches_the_rollout(d: Drive) -> None:
    rollout_id, first = await started(d)
    await d.client.start_attempt(rollout_id)
    await d.client.add_span(span(rollout_id, first))
    equal((await fresh_rollout(d, rollout_id)).status, "preparing", "after a span of the old attempt")
    await d.client.update_attempt(rollout_id, first, status="succeeded")
    equal((await fresh_rollout(d, rollout_id)).status, "preparing", "after the old attempt succeeded")
    equal((await d.client.update_attempt(rollout_id, first, status="failed")).status, "failed", "relabelled")


@check
async def a_span_recovers_a_rollout_that_waits_for_a_retry(d: Drive) -> None:
    config = al.RolloutConfig(max_attempts=3, retry_condition=["unresponsive"])
    rollout_id, attempt_id = await started(d, config=config)
    await d.client.update_attempt(rollout_id, attempt_id, status="unresponsive")
    equal((await fresh_rollout(d, rollout_id)).status, "requeuing")
    await d.client.add_span(span(rollout_id, attempt_id))
    rollout = await fresh_rollout(d, rollout_id)
    equal((rollout.status, rollout.attempt.status), ("running", "running"))
    await d.client.update_attempt(rollout_id, attempt_id, status="succeeded")


@check
async def a_span_moves_the_heartbeat_of_an_ended_attempt_but_never_revives_it(d: Drive) -> None:
    for status in ("failed", "succeeded", "timeout"):
        rollout_id, attempt_id = await started(d)
        await d.client.update_attempt(rollout_id, attempt_id, status=status, last_heartbeat_time=5.0)  # type: ignore[arg-type]
        await d.client.add_span(span(rollout_id, attempt_id))
        attempt = await d.client.get_latest_attempt(rollout_id)
        true(attempt is not None, "no attempt")
        equal(attempt.status, status)
        true(attempt.last_heartbeat_time > 5.0, f"{status}: the heartbeat did not move")


@check
async def times_round_trip_as_exact_doubles(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    for beat in (1234.5, 1234.5 + 100.0, time.time(), 0.1 + 0.2, 1790000000.1234567):
        written = await d.client.update_attempt(rollout_id, attempt_id, last_heartbeat_time=beat)
        equal(written.last_heartbeat_time, beat, "answered")
        read = await d.client.get_latest_attempt(rollout_id)
        equal(read.last_heartbeat_time if read else None, beat, "read back")
    listed = (await d.client.query_attempts(rollout_id))[0]
    equal(listed.last_heartbeat_time, 1790000000.1234567, "listed")
    rollout = await fresh_rollout(d, rollout_id)
    equal(rollout.attempt.start_time, listed.start_time, "start_time")


@check
async def update_attempt_takes_latest_metadata_and_worker(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    worker = f"w-{token()}"
    attempt = await d.client.update_attempt(
        rollout_id, "latest", worker_id=worker, metadata={"a": {"b": [1, 2]}}
    )
    equal(
        (attempt.attempt_id, attempt.worker_id, attempt.metadata), (attempt_id, worker, {"a": {"b": [1, 2]}})
    )
    equal(attempt.status, "preparing")
    seen = await d.client.get_worker_by_id(worker)
    true(seen is not None, "the worker is unknown")
    equal((seen.status, seen.current_attempt_id), ("busy", attempt_id))
    for key in ("status", "worker_id", "last_heartbeat_time", "metadata"):
        status, _ = await raw(d, "POST", f"rollouts/{rollout_id}/attempts/{attempt_id}", json={key: None})
        equal(status, 400, f"null {key}")


@check
async def running_and_preparing_copy_over_to_the_rollout(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    await d.client.update_attempt(rollout_id, attempt_id, status="running")
    equal((await fresh_rollout(d, rollout_id)).status, "running")
    await d.client.update_attempt(rollout_id, attempt_id, status="preparing")
    equal((await fresh_rollout(d, rollout_id)).status, "preparing")


@check
async def the_watchdog_times_out_old_attempts_and_silent_ones(d: Drive) -> None:
    await emptied(d)
    old, _ = await started(d, config=al.RolloutConfig(timeout_seconds=0.3))
    silent, silent_attempt = await started(
        d, config=al.RolloutConfig(unresponsive_seconds=0.3, max_attempts=2, retry_condition=["unresponsive"])
    )
    await d.client.add_span(span(silent, silent_attempt))

    async def noticed() -> bool:
        statuses = [(await fresh_rollout(d, r)).status for r in (old, silent)]
        return statuses == ["failed", "requeuing"]

    await soon("the watchdog", noticed)
    equal((await fresh_rollout(d, old)).attempt.status, "timeout")
    equal((await fresh_rollout(d, silent)).attempt.status, "unresponsive")
    again = await d.client.dequeue_rollout()
    equal((again.rollout_id, again.attempt.sequence_id) if again else None, (silent, 2), "the retry")
    await d.client.update_attempt(silent, "latest", status="succeeded")


@mends("idle-watchdog")
async def a_timeout_is_noticed_though_nobody_calls(d: Drive) -> None:
    worker = f"w-{token()}"
    await started(d, config=al.RolloutConfig(timeout_seconds=0.3), worker_id=worker)
    await asyncio.sleep(3.5)
    # Reading one worker does not scan upstream.
    seen = await d.client.get_worker_by_id(worker)
    equal(seen.status if seen else None, "unknown")


@mends("terminal")
async def a_finished_rollout_is_not_resurrected_by_a_late_attempt(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    await d.client.update_rollout(rollout_id, status="cancelled")
    with contextlib.suppress(aiohttp.ClientResponseError):
        await d.impatient.update_attempt(rollout_id, attempt_id, status="succeeded")
    equal((await fresh_rollout(d, rollout_id)).status, "cancelled")
    rollout_id, attempt_id = await started(d)
    await d.client.update_attempt(rollout_id, attempt_id, status="succeeded")
    with contextlib.suppress(aiohttp.ClientResponseError):
        await d.impatient.update_attempt(rollout_id, attempt_id, status="failed")
    equal((await fresh_rollout(d, rollout_id)).status, "succeeded")


@mends("stale-end")
async def a_reopened_rollout_has_no_end_time(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    await d.client.update_attempt(rollout_id, attempt_id, status="failed")
    again = await d.client.start_attempt(rollout_id)
    equal((again.status, again.end_time), ("preparing", None))
    equal((await fresh_rollout(d, rollout_id)).end_time, None, "read back")


@mends("cancel")
async def cancelling_reaches_the_attempt_and_the_worker(d: Drive) -> None:
    worker = f"w-{token()}"
    rollout_id, _ = await started(d, worker_id=worker)
    await d.client.update_rollout(rollout_id, status="cancelled")
    attempt = await d.client.get_latest_attempt(rollout_id)
    equal(attempt.status if attempt else None, "failed", "attempt")
    seen = await d.client.get_worker_by_id(worker)
    equal((seen.status, seen.current_rollout_id) if seen else None, ("idle", None), "worker")


@mends("revive")
async def an_ended_attempt_cannot_be_set_running_again(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    await d.client.update_attempt(rollout_id, attempt_id, status="succeeded")
    with contextlib.suppress(aiohttp.ClientResponseError):
        await d.impatient.update_attempt(rollout_id, attempt_id, status="running")
    attempt = await d.client.get_latest_attempt(rollout_id)
    equal(attempt.status if attempt else None, "succeeded")


# ── Queries over rollouts and attempts ───────────────────────────────────────────────────────────────────────────


@check
async def rollouts_are_found_by_status_and_id_with_and_or_or(d: Drive) -> None:
    a, b, c = [(await d.client.enqueue_rollout(input=i)).rollout_id for i in range(3)]
    await d.client.update_rollout(b, status="succeeded")
    ours = [a, b, c]

    async def found(**kw: Any) -> list[str]:
        return [r.rollout_id for r in await d.client.query_rollouts(**kw)]

    equal(await found(rollout_id_in=ours), ours, "by id, in insertion order")
    equal(await found(rollout_id_in=ours, status_in=["queuing"]), [a, c])
    equal(await found(rollout_ids=ours, status=["succeeded"]), [b], "the deprecated names")
    equal(await found(status_in=[]), [], "an empty list matches nothing")
    equal(await found(rollout_id_in=[]), [], "an empty list matches nothing")
    equal(await found(rollout_id_contains=a[3:]), [a], "contains")
    equal(await found(rollout_id_contains=a.upper()), [], "contains is case-sensitive")
    both = await found(rollout_id_in=[a], rollout_id_contains=b, filter_logic="or")
    equal(sorted(both), sorted([a, b]), "or")
    equal(await found(rollout_id_in=[a], rollout_id_contains=b), [], "and")
    equal(await found(rollout_id_contains="%"), [], "a percent sign is only a character")
    equal(await found(rollout_id_in=ours, rollout_id_contains="_"), [], "an underscore is only a character")


@check
async def rollouts_with_an_attempt_come_with_it(d: Drive) -> None:
    queued = (await d.client.enqueue_rollout(input=1)).rollout_id
    running, attempt_id = await started(d)
    page = await d.client.query_rollouts(rollout_id_in=[queued, running])
    equal([type(r) for r in page], [al.Rollout, al.AttemptedRollout])
    equal(page[1].attempt.attempt_id, attempt_id)  # type: ignore[union-attr]


@check
async def pages_say_limit_offset_and_the_total_before_paging(d: Drive) -> None:
    ids = [(await d.client.enqueue_rollout(input=i)).rollout_id for i in range(7)]
    page = await d.client.query_rollouts(rollout_id_in=ids, limit=3, offset=2)
    equal(([r.rollout_id for r in page], page.limit, page.offset, page.total), (ids[2:5], 3, 2, 7))
    last = await d.client.query_rollouts(rollout_id_in=ids, limit=3, offset=6)
    equal(([r.rollout_id for r in last], last.total), (ids[6:], 7))
    beyond = await d.client.query_rollouts(rollout_id_in=ids, limit=3, offset=70)
    equal((list(beyond), beyond.total), ([], 7))
    whole = await d.client.query_rollouts(rollout_id_in=ids)
    equal((len(whole), whole.limit, whole.offset, whole.total), (7, -1, 0, 7))


@check
async def bad_paging_and_sorting_is_refused_in_the_known_words(d: Drive) -> None:
    for query, text in (
        ("limit=0", "Limit must be greater than 0 or -1 for no limit"),
        ("limit=-2", "Limit must be greater than 0 or -1 for no limit"),
        ("offset=-1", "Offset must be greater than or equal to 0"),
        ("sort_by=nonsense", "Invalid sort_by: nonsense, allowed fields are: "),
    ):
        status, body = await raw(d, "GET", f"rollouts?{query}")
        equal(status, 400, query)
        true(text in body["detail"], f"{query}: {body['detail']!r}")
    await refused(d.impatient.query_rollouts(limit=0), status=400)
    await refused(d.impatient.query_rollouts(sort_by="nonsense"), status=400)
    equal((await raw(d, "GET", "spans"))[0], 422, "spans without a rollout")
    equal((await raw(d, "POST", "queues/rollouts/enqueue", json={}))[0], 422, "enqueue without rollouts")


@check
async def nulls_sort_as_infinity_for_times_and_as_empty_for_text(d: Drive) -> None:
    ids = [
        (await d.client.enqueue_rollout(input=i, mode=m)).rollout_id
        for i, m in enumerate((None, "val", "train"))
    ]
    await d.client.update_rollout(ids[1], status="failed")
    await d.client.update_rollout(ids[2], status="failed")

    async def sorted_by(field: str, order: str) -> list[int]:
        page = await d.client.query_rollouts(rollout_id_in=ids, sort_by=field, sort_order=order)  # type: ignore[arg-type]
        return [ids.index(r.rollout_id) for r in page]

    equal(await sorted_by("mode", "asc"), [0, 2, 1], "mode asc")
    equal(await sorted_by("mode", "desc"), [1, 2, 0], "mode desc")
    equal(await sorted_by("end_time", "asc"), [1, 2, 0], "end_time asc")
    equal(await sorted_by("end_time", "desc"), [0, 2, 1], "end_time desc")
    equal(await sorted_by("start_time", "desc"), [2, 1, 0], "start_time desc")


@check
async def attempts_are_listed_by_number_and_paged(d: Drive) -> None:
    rollout_id, first = await started(d)
    others = [(await d.client.start_attempt(rollout_id)).attempt.attempt_id for _ in range(3)]
    page = await d.client.query_attempts(rollout_id)
    equal([a.attempt_id for a in page], [first, *others])
    down = await d.client.query_attempts(rollout_id, sort_order="desc", limit=2, offset=1)
    equal(([a.sequence_id for a in down], down.total), ([3, 2], 4))
    beyond = await d.client.query_attempts(rollout_id, offset=9)
    equal((list(beyond), beyond.total), ([], 4))
    await d.client.update_attempt(rollout_id, others[0], worker_id="w-sort")
    by_worker = await d.client.query_attempts(rollout_id, sort_by="worker_id")
    equal(by_worker[3].attempt_id, others[0], "a null worker sorts first")
    nobody = await d.client.query_attempts("ro-nobody")
    equal((list(nobody), nobody.total), ([], 0))
    listed = await raw(d, "GET", f"rollouts/{rollout_id}/attempts?limit=1")
    equal((listed[0], listed[1]["total"], len(listed[1]["items"])), (200, 4, 1), "the GET form")


@check
async def the_get_form_of_queries_repeats_list_parameters(d: Drive) -> None:
    ids = [(await d.client.enqueue_rollout(input=i)).rollout_id for i in range(3)]
    await d.client.update_rollout(ids[0], status="failed")
    status, page = await raw(
        d, "GET", f"rollouts?rollout_id_in={ids[0]}&rollout_id_in={ids[1]}&status_in=failed&status_in=queuing"
    )
    equal((status, [r["rollout_id"] for r in page["items"]]), (200, ids[:2]))


@mends("or-empty")
async def or_without_filters_returns_everything(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    await d.client.add_span(span(rollout_id, attempt_id))
    equal(len(await d.client.query_spans(rollout_id, filter_logic="or")), 1, "spans")
    true(len(await d.client.query_rollouts(filter_logic="or", limit=2)) == 2, "rollouts")


@mends("dashboard")
async def the_stock_dashboards_filters_and_sorts_work(d: Drive) -> None:
    ids = [
        (await d.client.enqueue_rollout(input=i, mode=m)).rollout_id for i, m in enumerate(("train", "val"))
    ]
    query = f"rollouts?rollout_id_in={ids[0]}&rollout_id_in={ids[1]}"
    status, page = await raw(d, "GET", f"{query}&mode_in=val")
    equal((status, [r["rollout_id"] for r in page["items"]]), (200, [ids[1]]))
    for name in ("attempt_id", "duration", "last_heartbeat_time", "worker_id"):
        equal((await raw(d, "GET", f"{query}&sort_by={name}"))[0], 200, f"rollouts by {name}")
    for name in ("status_code", "duration"):
        equal((await raw(d, "GET", f"spans?rollout_id={ids[0]}&sort_by={name}"))[0], 200, f"spans by {name}")


# ── Resources ────────────────────────────────────────────────────────────────────────────────────────────────────


def three_resources() -> dict[str, Any]:
    return {
        "main": al.LLM(
            endpoint="http://x/v1", model="m", sampling_parameters={"temperature": 0.5, "stop": ["a"]}
        ),
        "proxy": al.ProxyLLM(endpoint="http://y", model="n", api_key="k"),
        "prompt": al.PromptTemplate(template="Hi {name}", engine="f-string"),
    }


@check
async def added_resources_get_an_id_version_one_and_become_the_latest(d: Drive) -> None:
    added = await d.client.add_resources(three_resources())
    true(re.fullmatch(r"rs-[0-9a-f]{12}", added.resources_id), f"id {added.resources_id}")
    equal((added.version, added.create_time == added.update_time), (1, True))
    for read in (
        await d.client.get_latest_resources(),
        await d.client.get_resources_by_id(added.resources_id),
    ):
        true(read is not None, "not found")
        equal(read.model_dump(), added.model_dump())
    equal(type(added.resources["proxy"]), al.ProxyLLM)
    equal(added.resources["prompt"].format(name="Ada"), "Hi Ada")  # type: ignore[union-attr]


@check
async def updated_resources_keep_their_id_and_create_time(d: Drive) -> None:
    resources_id = f"custom-{token()}"
    first = await d.client.update_resources(resources_id, three_resources())
    equal((first.resources_id, first.version), (resources_id, 1), "an unknown id is created")
    other = await d.client.add_resources(three_resources())
    second = await d.client.update_resources(
        resources_id, {"only": al.PromptTemplate(template="b", engine="jinja")}
    )
    equal((second.version, second.create_time), (2, first.create_time))
    true(second.update_time > first.update_time, "update_time did not move")
    equal(list(second.resources), ["only"])
    latest = await d.client.get_latest_resources()
    equal(latest.resources_id if latest else None, resources_id, "the update is the latest")
    read = await d.client.get_resources_by_id(resources_id)
    equal((read.version, list(read.resources)) if read else None, (2, ["only"]))
    page = await d.client.query_resources(resources_id=resources_id)
    equal((len(page), page.total, page[0].version), (1, 1, 2), "one row per id")
    true(other.version == 1, "another id's version moved")


@check
async def fifty_concurrent_updates_of_one_id_make_version_fifty(d: Drive) -> None:
    resources_id = f"many-{token()}"
    prompt = {"p": al.PromptTemplate(template="x", engine="f-string")}
    done = await asyncio.gather(*[d.client.update_resources(resources_id, prompt) for _ in range(50)])
    equal(sorted(u.version for u in done), list(range(1, 51)))
    read = await d.client.get_resources_by_id(resources_id)
    equal(read.version if read else None, 50)


@check
async def resources_are_found_by_id_and_substring_and_paged(d: Drive) -> None:
    mark = token()
    prompt = {"p": al.PromptTemplate(template="x", engine="f-string")}
    ids = [(await d.client.update_resources(f"{mark}-{i}", prompt)).resources_id for i in range(3)]
    page = await d.client.query_resources(resources_id_contains=mark)
    equal(([u.resources_id for u in page], page.total), (ids, 3))
    equal(len(await d.client.query_resources(resources_id=ids[0], resources_id_contains="-1")), 0, "and-ed")
    last = await d.client.query_resources(
        resources_id_contains=mark, sort_by="update_time", sort_order="desc", limit=1
    )
    equal(([u.resources_id for u in last], last.total), ([ids[2]], 3))
    equal(await d.client.get_resources_by_id("rs-nobody"), None)
    equal(await raw(d, "GET", "resources/rs-nobody"), (200, None))


@check
async def a_rollout_takes_the_latest_resources_unless_it_names_some(d: Drive) -> None:
    latest = (await d.client.add_resources(three_resources())).resources_id
    equal((await d.client.enqueue_rollout(input=1)).resources_id, latest)
    equal((await d.client.start_rollout(input=1)).resources_id, latest)
    equal((await d.client.start_rollout(input=1, resources_id="v-unknown")).resources_id, "v-unknown")


# ── Spans ────────────────────────────────────────────────────────────────────────────────────────────────────────


@check
async def a_span_comes_back_with_every_field_it_came_with(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    parent = token()[:16]
    sent = span(
        rollout_id,
        attempt_id,
        sequence_id=3,
        name="naïve 🦤",
        parent_id=parent,
        status={"status_code": "ERROR", "description": "boom"},
        attributes={"s": "x", "i": 7, "f": 0.25, "b": True, "l": ["a", "b"], "n": [1, 2]},
        events=[{"name": "tick", "attributes": {"n": 1}, "timestamp": 1000.5}],
        links=[
            {
                "context": {
                    "trace_id": token(),
                    "span_id": token()[:16],
                    "is_remote": True,
                    "trace_state": {"a": "b"},
                },
                "attributes": {"why": "because"},
            }
        ],
        start_time=1790000000.1234567,
        end_time=None,
        context={"trace_id": token(), "span_id": token()[:16], "is_remote": False, "trace_state": {}},
        resource={"attributes": {"service.name": "x"}, "schema_url": "https://example.org/schema"},
        kind="CLIENT",
        instrumentation={"name": "lib", "version": "1"},
    )
    stored = await d.client.add_span(sent)
    true(stored is not None, "taken for a duplicate")
    equal(stored.model_dump(), sent.model_dump(), "answered")
    read = (await d.client.query_spans(rollout_id))[0]
    equal(read.model_dump(), sent.model_dump(), "read back, extra fields included")


@check
async def a_duplicate_span_is_none_and_changes_nothing(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    first = span(rollout_id, attempt_id, sequence_id=1)
    true(await d.client.add_span(first) is not None, "the first was refused")
    equal(await d.client.add_span(first), None, "the second")
    equal(len(await d.client.query_spans(rollout_id)), 1)
    _, other = await started(d)
    elsewhere = (await d.client.start_attempt(rollout_id)).attempt.attempt_id
    moved = first.model_copy(update={"attempt_id": elsewhere})
    true(await d.client.add_span(moved) is not None, "the same span id in another attempt is another span")
    new = [span(rollout_id, elsewhere, sequence_id=i) for i in (5, 6)]
    stored = await d.client.add_many_spans([new[0], first, new[1], new[0]])
    equal([s.span_id for s in stored], [s.span_id for s in new], "add_many_spans answers the new ones")
    true(other, "attempt")


@check
async def a_span_of_an_unknown_rollout_or_attempt_is_refused(d: Drive) -> None:
    rollout_id, _ = await started(d)
    await refused(d.impatient.add_span(span("ro-nobody", "at-nobody")))
    await refused(d.impatient.add_span(span(rollout_id, "at-nobody")))
    equal(len(await d.client.query_spans(rollout_id)), 0)


@check
async def sequence_ids_count_per_rollout_and_follow_the_spans(d: Drive) -> None:
    first, attempt_id = await started(d)
    second, other = await started(d)
    equal(
        list(
            await d.client.get_many_span_sequence_ids(
                [(first, "a"), (second, "b"), (first, "c"), (first, "a")]
            )
        ),
        [1, 1, 2, 3],
    )
    equal(await d.client.get_next_span_sequence_id(f"ro-{token()[:12]}", "at-any"), 1, "ids are not checked")
    await d.client.add_span(span(second, other, sequence_id=40))
    equal(await d.client.get_next_span_sequence_id(second, other), 41, "raised by a span")
    await d.client.add_span(span(second, other, sequence_id=7))
    equal(await d.client.get_next_span_sequence_id(second, other), 42, "never lowered")
    equal(await d.client.get_next_span_sequence_id(first, attempt_id), 4)


@check
async def otel_spans_take_the_next_sequence_id(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    equal(await d.client.get_next_span_sequence_id(rollout_id, attempt_id), 1)
    equal((await d.client.add_otel_span(rollout_id, attempt_id, otel_span())).sequence_id, 2)  # type: ignore[union-attr]
    equal(await d.client.get_next_span_sequence_id(rollout_id, attempt_id), 3)
    source = otel_span("work", x=1)
    added = await d.client.add_otel_span(rollout_id, attempt_id, source)
    true(added is not None, "refused")
    equal(added.sequence_id, 4)
    equal((added.name, added.attributes["x"], added.status.status_code), ("work", 1, "ERROR"))
    equal(added.span_id, f"{source.get_span_context().span_id:016x}", "span id")
    equal(added.events[0].name, "tick")
    equal(await d.client.add_otel_span(rollout_id, attempt_id, source), None, "again")
    given = await d.client.add_otel_span(rollout_id, attempt_id, otel_span(), sequence_id=20)
    equal(given.sequence_id if given else None, 20)
    equal(await d.client.get_next_span_sequence_id(rollout_id, attempt_id), 21)


@check
async def spans_are_found_by_every_filter(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    mark = token()
    a = span(rollout_id, attempt_id, sequence_id=2, name=f"{mark}-Alpha")
    b = span(
        rollout_id, attempt_id, sequence_id=1, name=f"{mark}-beta", parent_id=a.span_id, trace_id=a.trace_id
    )
    c = span(rollout_id, attempt_id, sequence_id=3, name="gamma_100%", start_time=None)
    await d.client.add_many_spans([a, b, c])
    names = {a.span_id: "a", b.span_id: "b", c.span_id: "c"}

    async def found(attempt: str | None = None, **kw: Any) -> str:
        return "".join(names[s.span_id] for s in await d.client.query_spans(rollout_id, attempt, **kw))

    equal(await found(), "bac", "by sequence id")
    equal(await found(sort_order="desc"), "cab")
    equal(await found(sort_by=None), "bac", "without sort_by the server sorts by sequence id")
    equal(await found(attempt_id), "bac")
    equal(await found("latest"), "bac")
    equal(await found("at-nobody"), "")
    equal(await found(trace_id=a.trace_id), "ba")
    equal(await found(trace_id_contains=a.trace_id[4:20]), "ba")
    equal(await found(span_id=c.span_id), "c")
    equal(await found(span_id_contains=c.span_id[2:14]), "c")
    equal(await found(parent_id=a.span_id), "b")
    equal(await found(parent_id_contains=a.span_id[:8]), "b", "null never contains")
    equal(await found(parent_id_contains=""), "b", "null never contains, not even nothing")
    equal(await found(name=f"{mark}-beta"), "b")
    equal(await found(name_contains="Alpha"), "a")
    equal(await found(name_contains="alpha"), "", "contains is case-sensitive")
    equal(await found(name_contains="a_1"), "c", "an underscore is only a character")
    equal(await found(name_contains="0%"), "c")
    equal(await found(name_contains="a%"), "")
    equal(await found(name_contains="Alpha", span_id=b.span_id), "", "and")
    equal(await found(name_contains="Alpha", span_id=b.span_id, filter_logic="or"), "ba", "or")
    equal((await found(sort_by="start_time"))[-1], "c", "a null time sorts last")
    equal(
        (await found(sort_by="start_time", sort_order="desc"))[0], "c", "a null time sorts first when falling"
    )
    equal(await found(sort_by="name"), "cab" if a.name > c.name else "abc", "by name")
    page = await d.client.query_spans(rollout_id, limit=1, offset=1)
    equal(([names[s.span_id] for s in page], page.limit, page.offset, page.total), (["a"], 1, 1, 3))


@check
async def an_or_over_spans_never_leaves_its_rollout(d: Drive) -> None:
    first, attempt_id = await started(d)
    second, other = await started(d)
    mine, theirs = span(first, attempt_id, name="same"), span(second, other, name="same")
    await d.client.add_many_spans([mine, theirs])
    page = await d.client.query_spans(first, name="same", span_id=theirs.span_id, filter_logic="or")
    equal([s.span_id for s in page], [mine.span_id])
    newer = (await d.client.start_attempt(first)).attempt.attempt_id
    await d.client.add_span(span(first, newer, sequence_id=2, name="same"))
    page = await d.client.query_spans(first, attempt_id, name="same", span_id="x", filter_logic="or")
    equal([s.span_id for s in page], [mine.span_id], "nor its attempt")
    equal(
        [s.attempt_id for s in await d.client.query_spans(first, "latest")],
        [newer],
        "latest is the newest attempt",
    )


@check
async def spans_of_nobody_are_an_empty_page(d: Drive) -> None:
    page = await d.client.query_spans("ro-nobody")
    equal((list(page), page.total, page.limit, page.offset), ([], 0, -1, 0))
    queued = await d.client.enqueue_rollout(input=1)
    equal(len(await d.client.query_spans(queued.rollout_id, "latest")), 0, "latest without an attempt")


# ── OTLP ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def otlp(resource: dict[str, Any], *spans: dict[str, Any]) -> ExportTraceServiceRequest:
    """A request with one resource; each span is its attributes, plus `_name`."""

    def pairs(values: dict[str, Any]) -> list[KeyValue]:
        def value(v: Any) -> AnyValue:
            return AnyValue(int_value=v) if isinstance(v, int) else AnyValue(string_value=v)

        return [KeyValue(key=k, value=value(v)) for k, v in values.items() if not k.startswith("_")]

    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs(resource))
    scope = group.scope_spans.add()
    scope.scope.name = "compat.scope"
    for attributes in spans:
        added = scope.spans.add(
            trace_id=uuid.uuid4().bytes,
            span_id=uuid.uuid4().bytes[:8],
            name=attributes.get("_name", "otlp"),
            kind=3,
            start_time_unix_nano=1_790_000_000_123_456_789,
            end_time_unix_nano=1_790_000_001_000_000_000,
        )
        added.attributes.extend(pairs(attributes))
        added.status.code = 1
    return request


ROLLOUT, ATTEMPT, SEQUENCE = (
    "agentlightning.rollout_id",
    "agentlightning.attempt_id",
    "agentlightning.span_sequence_id",
)


async def posted(d: Drive, body: bytes, **headers: str) -> tuple[int, bytes]:
    sent = {"Content-Type": "application/x-protobuf"} | {k.replace("_", "-"): v for k, v in headers.items()}
    async with d.http.post(d.client.otlp_traces_endpoint(), data=body, headers=sent) as answer:
        return answer.status, await answer.read()


@check
async def the_published_exporter_stores_its_spans(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)

    def export() -> None:
        exporter = LightningStoreOTLPExporter()
        exporter.enable_store_otlp(d.client.otlp_traces_endpoint(), rollout_id, attempt_id)
        # The published exporter overwrites service.name itself, so another attribute shows that resources travel.
        provider = TracerProvider(resource=Resource.create({"deployment.environment": "compat"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("compat")
        with (
            tracer.start_as_current_span("outer"),
            tracer.start_as_current_span("inner", attributes={"x": 1, "l": ["a"]}),
        ):
            pass
        equal(exporter.export([otel_span("direct")]), SpanExportResult.SUCCESS)
        exporter.disable_store_otlp()
        provider.shutdown()

    await asyncio.to_thread(export)
    spans = await d.client.query_spans(rollout_id, attempt_id)
    equal([s.name for s in spans], ["inner", "outer", "direct"])
    equal([s.sequence_id for s in spans], [1, 2, 3])
    equal((spans[0].attributes["x"], list(spans[0].attributes["l"])), (1, ["a"]))  # type: ignore[arg-type]
    equal(spans[0].parent_id, spans[1].span_id)
    equal(spans[1].parent_id, None)
    equal((spans[2].status.status_code, spans[2].status.description), ("ERROR", "boom"))
    equal(spans[2].events[0].name, "tick")
    equal(spans[0].resource.attributes["deployment.environment"], "compat")
    rollout = await fresh_rollout(d, rollout_id)
    equal((rollout.status, rollout.attempt.status), ("running", "running"))


@check
async def otlp_takes_its_ids_from_the_span_before_the_resource(d: Drive) -> None:
    first, attempt_id = await started(d)
    second, other = await started(d)
    request = otlp(
        {ROLLOUT: first, ATTEMPT: attempt_id},
        {"_name": "one"},
        {"_name": "two", ROLLOUT: second, ATTEMPT: other},
    )
    status, body = await posted(d, request.SerializeToString())
    equal(status, 200)
    equal(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans, 0)
    (mine,) = await d.client.query_spans(first)
    (theirs,) = await d.client.query_spans(second)
    equal((mine.name, theirs.name), ("one", "two"))
    equal(mine.trace_id, request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex(), "trace id")
    equal(mine.start_time, 1_790_000_000_123_456_789 / 1e9, "start_time")
    equal(mine.status.status_code, "OK")
    true(mine.context is not None and mine.context.is_remote is False, "context")
    equal(mine.parent, None)


@check
async def otlp_sequence_ids_are_taken_shared_or_allocated(d: Drive) -> None:
    given, attempt_id = await started(d)
    await posted(
        d, otlp({ROLLOUT: given, ATTEMPT: attempt_id}, {SEQUENCE: 9}, {SEQUENCE: "12"}).SerializeToString()
    )
    equal([s.sequence_id for s in await d.client.query_spans(given)], [9, 12], "given")
    equal(await d.client.get_next_span_sequence_id(given, attempt_id), 13)
    shared, attempt_id = await started(d)
    await posted(d, otlp({ROLLOUT: shared, ATTEMPT: attempt_id, SEQUENCE: 4}, {}, {}).SerializeToString())
    equal([s.sequence_id for s in await d.client.query_spans(shared)], [4, 4], "shared by the resource")
    bad, attempt_id = await started(d)
    body = otlp({ROLLOUT: bad, ATTEMPT: attempt_id}, {SEQUENCE: "nonsense"}, {SEQUENCE: -3}, {})
    await posted(d, body.SerializeToString())
    equal([s.sequence_id for s in await d.client.query_spans(bad)], [1, 2, 3], "allocated")


@check
async def otlp_duplicates_are_stored_once(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    body = otlp({ROLLOUT: rollout_id, ATTEMPT: attempt_id}, {}, {}).SerializeToString()
    for _ in range(3):
        equal((await posted(d, body))[0], 200)
    equal(len(await d.client.query_spans(rollout_id)), 2)


@check
async def otlp_is_taken_gzipped_and_answered_gzipped(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    body = gzip.compress(otlp({ROLLOUT: rollout_id, ATTEMPT: attempt_id}, {}).SerializeToString())
    status, answer = await posted(d, body, Content_Encoding="gzip", Accept_Encoding="gzip")
    equal(status, 200)
    ExportTraceServiceResponse.FromString(answer)
    equal(len(await d.client.query_spans(rollout_id)), 1)


@check
async def otlp_that_is_no_otlp_is_a_400_and_nothing_is_fine(d: Drive) -> None:
    equal((await posted(d, b""))[0], 200, "an empty body")
    equal((await posted(d, b"\xff\xfe not protobuf"))[0], 400, "garbage")
    async with d.http.post(
        d.client.otlp_traces_endpoint(), data=b"x", headers={"Content-Type": "text/plain"}
    ) as answer:
        true(answer.status in (400, 415), f"text/plain: {answer.status}")
    equal((await posted(d, b"", Content_Type="application/x-protobuf; charset=utf-8"))[0], 200, "parameters")


@mends("all-or-nothing")
async def one_bad_otlp_span_never_loses_its_batch(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    good = {ROLLOUT: rollout_id, ATTEMPT: attempt_id}
    request = otlp(
        {},
        good,
        {ROLLOUT: "ro-nobody", ATTEMPT: "at-nobody"},
        good,
        {ROLLOUT: rollout_id, ATTEMPT: "at-nobody"},
    )
    status, body = await posted(d, request.SerializeToString())
    equal(status, 200)
    equal(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans, 2)
    equal(len(await d.client.query_spans(rollout_id)), 2)


@mends("unnamed-trace")
async def a_trace_that_names_no_rollout_gets_one_of_its_own(d: Drive) -> None:
    request = otlp({ROLLOUT: "", ATTEMPT: ""}, {"_name": "root"})
    trace_id = request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
    equal((await posted(d, request.SerializeToString()))[0], 200)
    spans = await d.client.query_spans(f"ro-{trace_id}")
    equal([s.name for s in spans], ["root"])


@mends("otlp-json")
async def otlp_is_taken_as_json_too(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    body = MessageToDict(otlp({ROLLOUT: rollout_id, ATTEMPT: attempt_id}, {"_name": "json"}))
    for each in body["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        each["traceId"], each["spanId"] = token(), token()[:16]  # OTLP/JSON spells ids in hex
    status, answer = await raw(d, "POST", "/v1/traces", json=body)
    equal(status, 200, f"status ({answer!r})")
    equal([s.name for s in await d.client.query_spans(rollout_id)], ["json"])


@mends("span-kind")
async def the_kind_of_an_otlp_span_is_kept(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    await posted(d, otlp({ROLLOUT: rollout_id, ATTEMPT: attempt_id}, {}).SerializeToString())
    (stored,) = await d.client.query_spans(rollout_id)
    true(
        "CLIENT" in str((stored.model_extra or {}).get("kind")).upper(), f"extra fields {stored.model_extra}"
    )


# ── Workers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@check
async def a_worker_is_made_by_its_first_heartbeat(d: Drive) -> None:
    worker_id = f"w-{token()}"
    equal(await d.client.get_worker_by_id(worker_id), None)
    made = await d.client.update_worker(worker_id, {"cpu": {"percent": 12.5}})
    equal(
        (made.worker_id, made.status, made.heartbeat_stats),
        (worker_id, "unknown", {"cpu": {"percent": 12.5}}),
    )
    true(abs(made.last_heartbeat_time - time.time()) < 5, "the heartbeat is not now")  # type: ignore[operator]
    later = await d.client.update_worker(worker_id)
    equal(later.heartbeat_stats, {"cpu": {"percent": 12.5}}, "omitted stats stay")
    true(later.last_heartbeat_time > made.last_heartbeat_time, "the heartbeat did not move")  # type: ignore[operator]
    equal(
        (await raw(d, "POST", f"workers/{worker_id}", json={"heartbeat_stats": None}))[0], 400, "null stats"
    )
    equal((await raw(d, "POST", f"workers/{worker_id}"))[0], 200, "no body")
    equal((await raw(d, "GET", f"workers/nobody-{token()}")), (200, None), "an unknown worker is null")


@check
async def a_worker_follows_its_attempt(d: Drive) -> None:
    await emptied(d)
    worker_id = f"w-{token()}"
    await d.client.update_worker(worker_id, {"gpu": 1})
    equal(await d.client.dequeue_rollout(worker_id=worker_id), None)
    idle = await d.client.get_worker_by_id(worker_id)
    true(idle is not None, "no worker")
    equal(idle.status, "idle", "after an empty dequeue")
    true(idle.last_dequeue_time is not None and idle.last_idle_time is not None, "times of the idle worker")
    rollout_id = (await d.client.enqueue_rollout(input=1)).rollout_id
    taken = await d.client.dequeue_rollout(worker_id=worker_id)
    true(taken is not None, "nothing came")
    equal(taken.attempt.worker_id, worker_id)
    busy = await d.client.get_worker_by_id(worker_id)
    true(busy is not None, "no worker")
    equal(
        (busy.status, busy.current_rollout_id, busy.current_attempt_id, busy.heartbeat_stats),
        ("busy", rollout_id, taken.attempt.attempt_id, {"gpu": 1}),
    )
    true(busy.last_busy_time is not None, "no last_busy_time")
    await d.client.update_attempt(rollout_id, "latest", status="succeeded")
    done = await d.client.get_worker_by_id(worker_id)
    true(done is not None, "no worker")
    equal(
        (done.status, done.current_rollout_id, done.current_attempt_id), ("idle", None, None), "after success"
    )
    lost, _ = await started(d, worker_id=worker_id)
    await d.client.update_attempt(lost, "latest", status="unresponsive")
    unknown = await d.client.get_worker_by_id(worker_id)
    equal(
        (unknown.status, unknown.current_rollout_id) if unknown else None, ("unknown", None), "after silence"
    )


@check
async def workers_are_found_by_status_and_substring(d: Drive) -> None:
    mark = token()
    ids = [f"{mark}-{i}" for i in range(3)]
    for worker_id in ids:
        await d.client.update_worker(worker_id, {})
    await started(d, worker_id=ids[1])
    page = await d.client.query_workers(worker_id_contains=mark, sort_by="worker_id", sort_order="desc")
    equal(([w.worker_id for w in page], page.total), (ids[::-1], 3))
    equal(
        [w.worker_id for w in await d.client.query_workers(worker_id_contains=mark, status_in=["busy"])],
        [ids[1]],
    )
    equal(len(await d.client.query_workers(status_in=[])), 0, "an empty list matches nothing")
    either = await d.client.query_workers(worker_id_contains=ids[0], status_in=["busy"], filter_logic="or")
    true({ids[0], ids[1]} <= {w.worker_id for w in either}, "or")
    _, raw_page = await raw(
        d, "POST", "workers/search", json={"worker_id_contains": mark, "limit": 2, "offset": 1}
    )
    equal((len(raw_page["items"]), raw_page["total"], raw_page["limit"]), (2, 3, 2), "paged")


# ── Waits ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def timed(call: Awaitable[Any]) -> tuple[float, Any]:
    before = time.monotonic()
    result = await call
    return time.monotonic() - before, result


@check
async def waits_return_the_finished_and_keep_their_timeouts(d: Drive) -> None:
    done, _ = await started(d)
    await d.client.update_rollout(done, status="succeeded")
    open_one, _ = await started(d)
    await d.client.wait_for_rollouts(rollout_ids=[done], timeout=0)  # warm the connection
    took, finished = await timed(d.client.wait_for_rollouts(rollout_ids=[done, open_one], timeout=0))
    equal([r.rollout_id for r in finished], [done])
    equal(type(finished[0]), al.Rollout, "plain rollouts")
    true(took < 0.05, f"timeout 0 took {took:.3f} s")
    took, finished = await timed(d.client.wait_for_rollouts(rollout_ids=[open_one], timeout=0.1))
    equal(finished, [])
    true(0.05 < took < 0.25, f"timeout 0.1 took {took:.3f} s")
    took, finished = await timed(d.client.wait_for_rollouts(rollout_ids=["ro-nobody", done], timeout=0.1))
    equal([r.rollout_id for r in finished], [done], "unknown ids are ignored")
    try:
        await d.client.wait_for_rollouts(rollout_ids=[done], timeout=1.0)
    except ValueError:
        return
    raise AssertionError("the client accepted a long timeout; its limit has changed")


@check
async def a_wait_without_timeout_ends_when_the_rollout_does(d: Drive) -> None:
    rollout_id, _ = await started(d)
    waiters = [asyncio.create_task(d.client.wait_for_rollouts(rollout_ids=[rollout_id])) for _ in range(10)]
    await asyncio.sleep(0.3)
    true(not any(w.done() for w in waiters), "a waiter came back early")
    await d.client.update_attempt(rollout_id, "latest", status="succeeded")
    took, results = await timed(asyncio.gather(*waiters))
    true(took < 2, f"woken after {took:.1f} s")
    true(all(r[0].status == "succeeded" for r in results), "a waiter got something else")


@check
async def twenty_polling_waits_are_cheap(d: Drive) -> None:
    ids = [(await d.client.enqueue_rollout(input=i)).rollout_id for i in range(20)]
    took, _ = await timed(
        asyncio.gather(*[d.client.wait_for_rollouts(rollout_ids=ids, timeout=0) for _ in range(20)])
    )
    true(took < 2, f"20 polls took {took:.2f} s")


# ── Concurrency ──────────────────────────────────────────────────────────────────────────────────────────────────


@check
async def fifty_concurrent_enqueues_all_land(d: Drive) -> None:
    rollouts = await asyncio.gather(*[d.client.enqueue_rollout(input=i) for i in range(50)])
    ids = {r.rollout_id for r in rollouts}
    equal(len(ids), 50)
    equal((await d.client.query_rollouts(rollout_id_in=sorted(ids))).total, 50)


@check
async def thirty_concurrent_dequeues_hand_out_each_rollout_once(d: Drive) -> None:
    await emptied(d)
    ids = {
        r.rollout_id
        for r in await d.client.enqueue_many_rollouts([al.EnqueueRolloutRequest(input=i) for i in range(20)])
    }
    taken = await asyncio.gather(*[d.client.dequeue_rollout(worker_id=f"w-{i}") for i in range(30)])
    got = [r.rollout_id for r in taken if r]
    equal((len(got), set(got)), (20, ids))


@check
async def thirty_concurrent_otel_spans_get_sequence_ids_one_to_thirty(d: Drive) -> None:
    rollout_id, attempt_id = await started(d)
    stored = await asyncio.gather(
        *[d.client.add_otel_span(rollout_id, attempt_id, otel_span(f"s{i}")) for i in range(30)]
    )
    equal(sorted(s.sequence_id for s in stored if s), list(range(1, 31)))
    equal([s.sequence_id for s in await d.client.query_spans(rollout_id)], list(range(1, 31)))


@check
async def the_client_works_from_a_second_event_loop(d: Drive) -> None:
    def elsewhere() -> str:
        async def talk() -> str:
            client = al.LightningStoreClient(d.url)
            try:
                return (await client.enqueue_rollout(input="thread")).rollout_id
            finally:
                await client.close()

        return asyncio.run(talk())

    rollout_id = await asyncio.to_thread(elsewhere)
    equal((await fresh_rollout(d, rollout_id)).input, "thread")


# ── Running them ─────────────────────────────────────────────────────────────────────────────────────────────────


async def main(url: str, *, allowed: set[str], only: str) -> int:
    client = al.LightningStoreClient(url)
    impatient = al.LightningStoreClient(url, retry_delays=(), health_retry_delays=())
    failures = known = passed = 0
    async with aiohttp.ClientSession() as http:
        drive = Drive(client, impatient, http, url)
        for each in CHECKS:
            if only and only not in each.sentence:
                continue
            try:
                await asyncio.wait_for(each.run(drive), timeout=60)
            except Exception as error:
                reason = (
                    str(error)
                    if isinstance(error, AssertionError)
                    else traceback.format_exc(limit=-2).strip()
                )
                if each.flaw in allowed:
                    known += 1
                    print(f"known {each.sentence} [{each.flaw}]", flush=True)
                    continue
                failures += 1
                print(f"FAIL  {each.sentence}: {reason or type(error).__name__}", flush=True)
            else:
                passed += 1
                print(f"ok    {each.sentence}", flush=True)
        await client.close()
        await impatient.close()
    print(f"{passed} ok, {failures} failed, {known} known upstream flaws")
    return failures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Drive the published store client through every method.")
    parser.add_argument("url", help="address of the store, for example http://127.0.0.1:4747")
    parser.add_argument(
        "--allow-known",
        action="append",
        default=[],
        metavar="FLAW",
        help=f"all, or any of {', '.join(KNOWN_FLAWS)}",
    )
    parser.add_argument("--only", default="", help="run only checks whose sentence contains this")
    return parser.parse_args()


if __name__ == "__main__":
    args = arguments()
    names = set(KNOWN_FLAWS) if "all" in args.allow_known else set(args.allow_known)
    if unknown := names - set(KNOWN_FLAWS):
        sys.exit(f"unknown flaw {', '.join(sorted(unknown))}; known are {', '.join(KNOWN_FLAWS)}")
    sys.exit(min(100, asyncio.run(main(args.url.rstrip("/"), allowed=names, only=args.only))))
