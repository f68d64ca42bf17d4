"""Calls about analysis, findings and scores."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leyden.sdk.calls.base import API, Calls, part, plain, read, read_page
from leyden.types import Finding, FindingStatus, Page, Score


class FindingCalls(Calls):
    """Ask what goes wrong, decide what to do about it, and score runs."""

    def analyze(
        self,
        filter: str | None = None,
        *,
        rollout_ids: Sequence[str] | None = None,
        since: float | None = None,
        until: float | None = None,
        save: bool = True,
    ) -> dict[str, Any]:
        """Analyse stored runs that match all that is given and return the report as JSON; `save` keeps its findings.

        filter: `agent:router status:failed`. since, until: unix seconds. Raises BadInput for a filter that is none.
        """
        body: dict[str, Any] = {} if filter is None else {"filter": filter}
        body |= {
            "rollout_ids": None if rollout_ids is None else list(rollout_ids),
            "since": since,
            "until": until,
            "save": save,
        }
        return read(dict[str, Any], self.request("POST", f"{API}/analyze", body=body))

    def findings(
        self, *, status: FindingStatus | None = None, limit: int = 50, offset: int = 0
    ) -> Page[Finding]:
        """Findings, the costliest first."""
        params = {"status": status, "limit": limit, "offset": offset}
        return read_page(Finding, self.request("GET", f"{API}/findings", params=params))

    def finding(self, fingerprint: str) -> Finding:
        """One finding. Raises NotFound."""
        return read(Finding, self.request("GET", f"{API}/findings/{part(fingerprint)}"))

    def set_finding_status(self, fingerprint: str, status: FindingStatus) -> Finding:
        """Accept, fix, dismiss or reopen a finding."""
        answer = self.request("POST", f"{API}/findings/{part(fingerprint)}", body={"status": status})
        return read(Finding, answer)

    def add_scores(self, scores: Iterable[Score | Mapping[str, Any]]) -> None:
        """Store named numbers about rollouts, attempts or spans."""
        self.request("POST", f"{API}/scores", body=plain(scores))

    def scores(self, rollout_id: str) -> list[Score]:
        """The scores of a rollout, oldest first. Raises NotFound."""
        return read(list[Score], self.request("GET", f"{API}/rollouts/{part(rollout_id)}/scores"))
