"""Calls about what is kept: retention policies, and pruning."""

from typing import Any, Literal

from leyden.sdk.calls.base import API, Calls, present, read

Mode = Literal["train", "val", "test"]
AnyMode = Literal["train", "val", "test", ""]


class DatabaseCalls(Calls):
    """Retention and pruning; both need a key with the scope admin. project: default the key's own."""

    def retention(self, *, project: str | None = None) -> list[dict[str, Any]]:
        """The policies: {"project", "mode", "max_age_s", "max_rollouts", "max_bytes"}; mode "" is every mode without its own."""
        answer = self.request("GET", f"{API}/retention", params={"project": project})
        return read(list[dict[str, Any]], answer)

    def set_retention(
        self,
        *,
        mode: AnyMode = "",
        max_age_s: float | None = None,
        max_rollouts: int | None = None,
        max_bytes: int | None = None,
        project: str | None = None,
    ) -> dict[str, Any]:
        """Store a policy in the place of the one for its mode; None is no bound.

        max_age_s counts from the end of a rollout; max_rollouts and max_bytes keep the newest of those that ended.
        """
        body = present(
            mode=mode, max_age_s=max_age_s, max_rollouts=max_rollouts, max_bytes=max_bytes, project=project
        )
        return read(dict[str, Any], self.request("PUT", f"{API}/retention", body=body))

    def clear_retention(self, *, mode: AnyMode = "", project: str | None = None) -> None:
        """Remove a policy. Raises NotFound."""
        self.request("DELETE", f"{API}/retention", params={"mode": mode, "project": project})

    def prune(
        self,
        *,
        mode: Mode | None = None,
        max_age_s: float | None = None,
        max_rollouts: int | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
        project: str | None = None,
    ) -> dict[str, Any]:
        """Delete ended rollouts beyond the bounds, oldest first; without a bound, apply the stored policies.

        {"rollouts", "spans", "bytes"} of what went (dry_run: of what would go) and "kept": how many stayed, by what keeps them.
        A long deletion takes several requests; a caller that goes away leaves it unfinished, and consistent.
        """
        body = present(
            mode=mode, max_age_s=max_age_s, max_rollouts=max_rollouts, max_bytes=max_bytes, project=project
        )
        gone = {"rollouts": 0, "spans": 0, "bytes": 0}
        while True:
            answer = read(
                dict[str, Any], self.request("POST", f"{API}/db/prune", body={**body, "dry_run": dry_run})
            )
            gone = {name: number + answer[name] for name, number in gone.items()}
            if not answer["more"]:
                return {**gone, "kept": answer["kept"]}
