"""A program's run as the store sees it: its rollout, signs of life, the span of the program itself, and the sum of its model calls."""

import os
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from leyden.cli.run_environment import Ids
from leyden.cli.run_program import Ended
from leyden.cli.units import count, many, money
from leyden.errors import LeydenError
from leyden.gateway.identity import trace_of
from leyden.sdk import semconv
from leyden.sdk.client import Client
from leyden.sdk.context import new_attempt_id, new_rollout_id
from leyden.sdk.delivery import HEARTBEAT_S, SILENCE_S
from leyden.types import AttemptStatus, Mode, RolloutConfig, SpanSummary

_CALLS = ("llm", "embedding")
# The gateway stores a call a moment after its answer went out: the sum is told once nothing was added for this long.
_QUIET_S, _PATIENCE_S = 0.1, 3.0


class Run(NamedTuple):
    """A run that began. words: the command line; sequence_id: of the program's own span, the first; began_ns: unix ns."""

    ids: Ids
    words: tuple[str, ...]
    agent: str | None
    sequence_id: int
    began_ns: int


def begin(
    client: Client,
    words: Sequence[str],
    *,
    input: str | None,
    mode: Mode | None,
    name: str | None,
    agent: str | None,
) -> Run:
    """Announce the rollout. input: default the command line. Raises ServerUnreachable and what the server refuses with."""
    rollout_id, attempt_id = new_rollout_id(), new_attempt_id()
    ids = Ids(rollout_id, attempt_id, trace_of(rollout_id, attempt_id), os.urandom(8).hex())
    began_ns = time.time_ns()
    client.register_rollout(
        ids.rollout_id,
        ids.attempt_id,
        input=" ".join(words) if input is None else input,
        mode=mode,
        metadata={"command": list(words), **({"name": name} if name else {})},
        config=RolloutConfig(unresponsive_seconds=SILENCE_S),
        start_time=began_ns / 1e9,
    )
    client.update_attempt(rollout_id, attempt_id, status=AttemptStatus.RUNNING)
    return Run(ids, tuple(words), agent, client.next_sequence_id(rollout_id, attempt_id), began_ns)


class Heartbeats:
    """A context manager that says once a minute that the run is alive, however silent the program is."""

    def __init__(self, client: Client, ids: Ids, *, every_s: float = HEARTBEAT_S) -> None:
        self._client, self._ids, self._every_s = client, ids, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="leyden-heartbeats", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self._client.heartbeat(self._ids.rollout_id, self._ids.attempt_id)
            except LeydenError:
                continue  # a server that is back in time hears the next one


def end(client: Client, run: Run, ended: Ended, *, is_rewarded: bool) -> None:
    """Record how the program ended: its span, its reward when its exit status is one, the state of the rollout."""
    spans = [_program_span(run, ended)]
    if is_rewarded:
        place = client.next_sequence_id(run.ids.rollout_id, run.ids.attempt_id)
        spans.append(_reward_span(run, 1.0 if ended.is_success else 0.0, sequence_id=place))
    client.add_spans(spans)
    update: dict[str, Any] = {"status": AttemptStatus.SUCCEEDED}
    if not ended.is_success:
        update = {"status": AttemptStatus.FAILED, "failure_reason": ended.reason}
    client.update_attempt(run.ids.rollout_id, run.ids.attempt_id, **update)


def account(client: Client, ids: Ids) -> str:
    """What the run used, in words: `3 model calls, 812 tokens in, 96 out, $0.0042`."""
    calls = [span for span in _settled(client, ids.rollout_id) if span.kind in _CALLS]
    if not calls:
        return "no model call came through the gateway"
    sent, made = sum(span.input_tokens or 0 for span in calls), sum(span.output_tokens or 0 for span in calls)
    failed = sum(span.status == "error" for span in calls)
    how_many = many(len(calls), "model call") + (f" ({failed} failed)" if failed else "")
    return f"{how_many}, {count(sent)} tokens in, {count(made)} out, {_cost(calls)}"


def _cost(calls: Sequence[SpanSummary]) -> str:
    known = [span.cost_usd for span in calls if span.cost_usd is not None]
    if not known:
        return "cost unknown"
    unknown = len(calls) - len(known)
    return money(sum(known)) + (f" and {many(unknown, 'call')} of unknown cost" if unknown else "")


def _settled(client: Client, rollout_id: str) -> list[SpanSummary]:
    """The spans of a rollout once the last ones have arrived."""
    patience = threading.Event()
    until = time.monotonic() + _PATIENCE_S
    spans = client.span_summaries(rollout_id).items
    while time.monotonic() < until:
        patience.wait(_QUIET_S)
        before, spans = len(spans), client.span_summaries(rollout_id).items
        if len(spans) == before:
            break
    return spans


def _program_span(run: Run, ended: Ended) -> dict[str, Any]:
    program = os.path.basename(run.words[0])
    named: dict[str, Any] = {
        "process.executable.name": program,
        "process.command_args": list(run.words),
        "process.exit.code": ended.returncode,
    }
    if run.agent:
        named |= {semconv.OPERATION: "invoke_agent", semconv.AGENT_NAME: run.agent}
    status = {"status_code": "OK", "description": None}
    if not ended.is_success:
        status = {"status_code": "ERROR", "description": ended.reason}
    name = f"invoke_agent {run.agent}" if run.agent else program
    own = {"span_id": run.ids.span_id, "parent_id": None, "sequence_id": run.sequence_id}
    return _span(run, own, name=name, status=status, attributes=named, began_ns=run.began_ns)


def _reward_span(run: Run, value: float, *, sequence_id: int) -> dict[str, Any]:
    named = {f"{semconv.REWARD}.0.name": "primary", f"{semconv.REWARD}.0.value": value}
    own = {"span_id": os.urandom(8).hex(), "parent_id": run.ids.span_id, "sequence_id": sequence_id}
    status = {"status_code": "UNSET", "description": None}
    return _span(run, own, name=semconv.ANNOTATION, status=status, attributes=named, began_ns=time.time_ns())


def _span(
    run: Run,
    own: dict[str, Any],
    *,
    name: str,
    status: dict[str, Any],
    attributes: dict[str, Any],
    began_ns: int,
) -> dict[str, Any]:
    return own | {
        "rollout_id": run.ids.rollout_id,
        "attempt_id": run.ids.attempt_id,
        "trace_id": run.ids.trace_id,
        "name": name,
        "status": status,
        "attributes": attributes,
        "events": [],
        "links": [],
        "start_time": began_ns / 1e9,
        "end_time": time.time_ns() / 1e9,
        "context": None,
        "parent": None,
        "resource": {"attributes": {"service.name": "leyden.run"}, "schema_url": ""},
    }
