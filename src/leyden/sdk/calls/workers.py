"""Calls about workers: runner processes."""

from collections.abc import Sequence
from typing import Any, Literal

from leyden.sdk.calls.base import AGL, Calls, given, part, present, read, read_optional, read_page
from leyden.sdk.wire import UNSET, Unset
from leyden.types import Page, Worker, WorkerStatus


class WorkerCalls(Calls):
    """Heartbeats and the list of workers."""

    def update_worker(self, worker_id: str, *, heartbeat_stats: dict[str, Any] | Unset = UNSET) -> Worker:
        """Say that a worker is alive; keeps the old stats when none are given."""
        body = given(heartbeat_stats=heartbeat_stats)
        return read(Worker, self.request("POST", f"{AGL}/workers/{part(worker_id)}", body=body))

    def worker(self, worker_id: str) -> Worker | None:
        """One worker, or None."""
        return read_optional(Worker, self.request("GET", f"{AGL}/workers/{part(worker_id)}"))

    def workers(
        self,
        *,
        status_in: Sequence[WorkerStatus | str] | None = None,
        worker_id_contains: str | None = None,
        filter_logic: Literal["and", "or"] = "and",
        sort_by: str | None = None,
        sort_order: Literal["asc", "desc"] = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> Page[Worker]:
        """Workers that match."""
        body = present(
            status_in=status_in,
            worker_id_contains=worker_id_contains,
            filter_logic=filter_logic,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )
        return read_page(Worker, self.request("POST", f"{AGL}/workers/search", body=body))
