"""Calls about keys and the server itself."""

from collections.abc import Sequence
from typing import Any, Literal

from leyden.sdk.calls.base import AGL, API, Calls, part, read
from leyden.types import KeyLimits

Scope = Literal["ingest", "read", "run", "gateway", "admin"]


class ServerCalls(Calls):
    """Keys, figures and health."""

    def create_key(
        self,
        name: str,
        *,
        scopes: Sequence[Scope],
        project: str = "default",
        limits: KeyLimits | None = None,
    ) -> dict[str, Any]:
        """Issue a key; the answer's "key" is shown this once. limits: what it may use of the gateway."""
        body: dict[str, Any] = {"name": name, "scopes": list(scopes), "project": project}
        if limits is not None:
            body["limits"] = limits.model_dump(mode="json", exclude_defaults=True)
        return read(dict[str, Any], self.request("POST", f"{API}/keys", body=body))

    def keys(self) -> list[dict[str, Any]]:
        """The keys there are, without their secrets."""
        return read(list[dict[str, Any]], self.request("GET", f"{API}/keys"))

    def revoke_key(self, key_id: str) -> None:
        """End a key. Raises NotFound."""
        self.request("DELETE", f"{API}/keys/{part(key_id)}")

    def info(self) -> dict[str, Any]:
        """{"version", "database", "project", "decoder", "counts"}."""
        return read(dict[str, Any], self.request("GET", f"{API}/info"))

    def pack(self, *, after_s: float = 0.0) -> dict[str, int]:
        """Pack what ended at least `after_s` ago: {"rollouts", "spans", "raw_bytes", "packed_bytes", "failed"}."""
        return read(dict[str, int], self.request("POST", f"{API}/db/pack", body={"after_s": after_s}))

    def statistics(self) -> dict[str, Any]:
        """Counts of the store and its uptime in seconds, as the store protocol has them."""
        return read(dict[str, Any], self.request("GET", f"{AGL}/statistics"))

    def health(self) -> dict[str, Any]:
        """{"status": "ok"} from a server that lives. Raises ServerUnreachable from one that does not."""
        return read(dict[str, Any], self.request("GET", f"{AGL}/health"))
