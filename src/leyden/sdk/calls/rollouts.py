"""Calls about rollouts and attempts."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field

from leyden.sdk.calls.base import (
    AGL,
    API,
    Calls,
    as_dict,
    given,
    part,
    plain,
    present,
    read,
    read_optional,
    read_page,
    read_rollout,
    read_rollouts,
)
from leyden.sdk.wire import UNSET, Unset
from leyden.types import (
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    EnqueueRollout,
    Mode,
    Page,
    Rollout,
    RolloutConfig,
    RolloutStatus,
    Score,
)

Order = Literal["asc", "desc"]
_POLL_S = 20.0
LATEST = "latest"


class RolloutSummary(Rollout):
    """A rollout as lists show it: with counts, totals and its reward."""

    model_config = ConfigDict(extra="allow")

    attempts: int = 0
    spans: int = 0
    errors: int = 0
    reward: float | None = None
    duration_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    agent: str | None = None
    source: str | None = None


class RolloutDetail(RolloutSummary):
    """A rollout as its page shows it: with its scores and attempts."""

    scores: list[Score] = Field(default_factory=list[Score])
    attempt_list: list[Attempt] = Field(default_factory=list[Attempt])


class RolloutCalls(Calls):
    """Queue, run, look at and end rollouts."""

    def enqueue(
        self,
        input: Any,
        *,
        mode: Mode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Rollout:
        """Put one unit of work on the queue. The same `idempotency_key` returns the first rollout again."""
        return self.enqueue_many(
            [
                EnqueueRollout(
                    input=input,
                    mode=mode,
                    resources_id=resources_id,
                    config=config,
                    metadata=metadata,
                    idempotency_key=idempotency_key,
                )
            ]
        )[0]

    def enqueue_many(self, rollouts: Iterable[EnqueueRollout | Mapping[str, Any]]) -> list[Rollout]:
        """Put many on the queue at once; the answers are in the same order."""
        answer = self.request("POST", f"{AGL}/queues/rollouts/enqueue", body={"rollouts": plain(rollouts)})
        return read(list[Rollout], answer)

    def dequeue(
        self, worker_id: str | None = None, *, limit: int = 1, wait_seconds: float = 0.0
    ) -> list[AttemptedRollout]:
        """Claim up to `limit` queued rollouts, oldest first; waits up to `wait_seconds` for the first one."""
        body = {
            "limit": limit,
            "worker_id": worker_id,
            **({"wait_seconds": wait_seconds} if wait_seconds else {}),
        }
        timeout_s = self.wire.timeout_s + wait_seconds
        answer = self.request("POST", f"{AGL}/queues/rollouts/dequeue", body=body, timeout_s=timeout_s)
        return read(list[AttemptedRollout], answer)

    def start_rollout(
        self,
        input: Any,
        *,
        mode: Mode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        worker_id: str | None = None,
    ) -> AttemptedRollout:
        """Begin a rollout that never waits in the queue, with its first attempt."""
        body = {
            "input": input,
            "mode": mode,
            "resources_id": resources_id,
            "config": config,
            "metadata": metadata,
            "worker_id": worker_id,
        }
        return read(AttemptedRollout, self.request("POST", f"{AGL}/rollouts", body=body))

    def register_rollout(
        self,
        rollout_id: str,
        attempt_id: str,
        *,
        input: Any = None,
        mode: Mode | None = None,
        resources_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        config: RolloutConfig | None = None,
        start_time: float | None = None,
    ) -> AttemptedRollout:
        """Announce a rollout that already runs under ids of the caller's choice; announcing it twice is fine.

        start_time: unix seconds; default now. config: with `unresponsive_seconds`, call `heartbeat` more often than that.
        """
        body = {
            "rollout_id": rollout_id,
            "attempt_id": attempt_id,
            "input": input,
            "mode": mode,
            "resources_id": resources_id,
            "metadata": metadata,
            "config": config,
            "start_time": time.time() if start_time is None else start_time,
        }
        return read(AttemptedRollout, self.request("POST", f"{API}/rollouts", body=body))

    def start_attempt(self, rollout_id: str, *, worker_id: str | None = None) -> AttemptedRollout:
        """Begin another attempt of a rollout, whatever its state."""
        answer = self.request(
            "POST", f"{AGL}/rollouts/{part(rollout_id)}/attempts", body={"worker_id": worker_id}
        )
        return read(AttemptedRollout, answer)

    def rollout(self, rollout_id: str) -> Rollout:
        """One rollout, with its latest attempt when it has one. Raises NotFound."""
        return read_rollout(self.request("GET", f"{AGL}/rollouts/{part(rollout_id)}"))

    def rollouts(
        self,
        *,
        status_in: Sequence[RolloutStatus | str] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        rollout_id_contains: str | None = None,
        mode_in: Sequence[str] | None = None,
        filter_logic: Literal["and", "or"] = "and",
        sort_by: str | None = None,
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> Page[Rollout]:
        """Rollouts that match, as the store protocol has them. An empty list matches nothing; None does not filter."""
        body = present(
            status_in=status_in,
            rollout_id_in=rollout_id_in,
            rollout_id_contains=rollout_id_contains,
            mode_in=mode_in,
            filter_logic=filter_logic,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )
        return read_rollouts(self.request("POST", f"{AGL}/rollouts/search", body=body))

    def update_rollout(
        self,
        rollout_id: str,
        *,
        input: Any | Unset = UNSET,
        mode: Mode | Unset | None = UNSET,
        resources_id: str | Unset | None = UNSET,
        status: RolloutStatus | str | Unset = UNSET,
        config: RolloutConfig | Unset = UNSET,
        metadata: dict[str, Any] | Unset | None = UNSET,
        failure_reason: str | Unset = UNSET,
    ) -> Rollout:
        """Change what is given and leave the rest; None clears. `status="cancelled"` cancels it."""
        body = given(
            input=input,
            mode=mode,
            resources_id=resources_id,
            status=status,
            config=config,
            metadata=metadata,
            failure_reason=failure_reason,
        )
        return read(Rollout, self.request("POST", f"{AGL}/rollouts/{part(rollout_id)}", body=body))

    def delete_rollout(self, rollout_id: str) -> None:
        """Delete a rollout with its attempts, spans and scores."""
        self.request("DELETE", f"{AGL}/rollouts/{part(rollout_id)}")

    def wait(self, rollout_ids: Sequence[str], timeout_s: float | None = None) -> list[Rollout]:
        """Wait until all of them ended and return those that did; unknown ids are ignored.

        timeout_s: 0 answers at once, None waits without limit. The server is asked in pieces of 20 seconds.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            piece_s = _POLL_S if end is None else max(0.0, min(_POLL_S, end - time.monotonic()))
            began = time.monotonic()
            answer = self.request(
                "POST",
                f"{AGL}/waits/rollouts",
                body={"rollout_ids": list(rollout_ids), "timeout": piece_s},
                timeout_s=self.wire.timeout_s + piece_s,
            )
            finished = read(list[Rollout], answer)
            # The server answers early only when nothing is left to wait for.
            early = time.monotonic() - began < 0.9 * piece_s
            if (
                early
                or len(finished) >= len(set(rollout_ids))
                or (end is not None and time.monotonic() >= end)
            ):
                return finished

    def attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str = "sequence_id",
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> Page[Attempt]:
        """Attempts of a rollout; empty for an unknown one."""
        params = {"sort_by": sort_by, "sort_order": sort_order, "limit": limit, "offset": offset}
        answer = self.request("GET", f"{AGL}/rollouts/{part(rollout_id)}/attempts", params=params)
        return read_page(Attempt, answer)

    def latest_attempt(self, rollout_id: str) -> Attempt | None:
        """The attempt with the highest number, or None."""
        answer = self.request("GET", f"{AGL}/rollouts/{part(rollout_id)}/attempts/{LATEST}")
        return read_optional(Attempt, answer)

    def update_attempt(
        self,
        rollout_id: str,
        attempt_id: str = LATEST,
        *,
        status: AttemptStatus | str | Unset = UNSET,
        worker_id: str | Unset = UNSET,
        last_heartbeat_time: float | Unset = UNSET,
        metadata: dict[str, Any] | Unset = UNSET,
        failure_reason: str | Unset = UNSET,
    ) -> Attempt:
        """Change what is given and leave the rest; the rollout's status follows its latest attempt."""
        body = given(
            status=status,
            worker_id=worker_id,
            last_heartbeat_time=last_heartbeat_time,
            metadata=metadata,
            failure_reason=failure_reason,
        )
        path = f"{AGL}/rollouts/{part(rollout_id)}/attempts/{part(attempt_id)}"
        return read(Attempt, self.request("POST", path, body=body))

    def heartbeat(self, rollout_id: str, attempt_id: str = LATEST) -> Attempt:
        """Say that an attempt is alive: its lease runs from now."""
        return self.update_attempt(rollout_id, attempt_id, last_heartbeat_time=time.time())

    def list_rollouts(
        self,
        filter: str | None = None,
        *,
        status: RolloutStatus | str | None = None,
        mode: Mode | None = None,
        agent: str | None = None,
        since: float | None = None,
        until: float | None = None,
        q: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> Page[RolloutSummary]:
        """Rollouts with their counts and rewards, newest first, that match all that is given. Raises BadInput.

        filter: `status:failed reward<0.5 since:7d`. since, until: unix seconds; q: text to search for.
        """
        params = {
            "filter": filter,
            "status": None if status is None else str(status),
            "mode": mode,
            "agent": agent,
            "since": since,
            "until": until,
            "q": q,
            "limit": limit,
            "offset": offset,
        }
        return read_page(RolloutSummary, self.request("GET", f"{API}/rollouts", params=params))

    def rollout_detail(self, rollout_id: str) -> RolloutDetail:
        """One rollout with counts, scores and attempts. Raises NotFound."""
        return read(RolloutDetail, self.request("GET", f"{API}/rollouts/{part(rollout_id)}"))

    def import_runs(self, runs: Iterable[Any]) -> dict[str, Any]:
        """Store finished runs (`ingest.record.RecordedRun`, or objects of that form); storing one twice changes nothing.

        Returns {"imported", "unchanged", "spans", "rejected": [{"rollout_id", "span_id", "reason"}]}.
        """
        answer = self.request("POST", f"{API}/runs", body={"runs": [as_dict(run) for run in runs]})
        return read(dict[str, Any], answer)
