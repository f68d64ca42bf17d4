"""Calls about exports and imports of a whole project."""

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from leyden.sdk.calls.base import API, Calls, read
from leyden.sdk.wire import error_of


class TransferCalls(Calls):
    """Take a project out of a store, and put it into another."""

    @contextmanager
    def export(
        self,
        filter: str | None = None,
        *,
        format: Literal["jsonl", "otlp-json"] = "jsonl",
        status: str | None = None,
        mode: str | None = None,
        agent: str | None = None,
        since: float | None = None,
        until: float | None = None,
        rollout_ids: Sequence[str] | None = None,
    ) -> Generator[Iterator[bytes]]:
        """An export as it comes, in pieces that may end anywhere: `with client.export() as pieces: file.writelines(pieces)`.

        jsonl is Leyden's own format, for `import_export`; otlp-json has the spans alone, for other tools. filter: which
        rollouts, a text of the filter language (docs/how-to/filter.md); since, until: unix seconds of their start. An export that fails on the way ends in a line that says so.
        """
        params = {
            "filter": filter,
            "format": format,
            "status": status,
            "mode": mode,
            "agent": agent,
            "since": since,
            "until": until,
            "rollout_id": None if rollout_ids is None else list(rollout_ids),
        }
        with self.wire.receive(f"{API}/export", params=params) as pieces:
            yield pieces

    def import_export(self, pieces: Iterable[bytes]) -> dict[str, Any]:
        """Put an export in the format jsonl into the store: what was added, what was there, what was left out and why.

        Importing again changes nothing. Raises BadFormat for what is no export, or not all of one; what came before stays.
        """
        answer = self.wire.upload(f"{API}/import", pieces)
        error = error_of(answer)
        if error is not None:
            raise error
        return read(dict[str, Any], json.loads(answer.body))
