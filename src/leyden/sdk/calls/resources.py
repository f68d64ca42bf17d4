"""Calls about resources: what an agent runs with."""

from collections.abc import Mapping
from typing import Any, Literal

from leyden.sdk.calls.base import AGL, Calls, part, read, read_optional, read_page
from leyden.types import LLM, Page, PromptTemplate, ProxyLLM, ResourcesUpdate

Named = Mapping[str, LLM | ProxyLLM | PromptTemplate | Mapping[str, Any]]


class ResourceCalls(Calls):
    """Store and look up named resources."""

    def add_resources(self, resources: Named) -> ResourcesUpdate:
        """Store a new bundle under a new id; it becomes the latest."""
        return read(ResourcesUpdate, self.request("POST", f"{AGL}/resources", body=dict(resources)))

    def update_resources(self, resources_id: str, resources: Named) -> ResourcesUpdate:
        """Store the next version under an id, or the first one; it becomes the latest."""
        answer = self.request("POST", f"{AGL}/resources/{part(resources_id)}", body=dict(resources))
        return read(ResourcesUpdate, answer)

    def get_resources(self, resources_id: str) -> ResourcesUpdate | None:
        """The current version under an id, or None."""
        return read_optional(ResourcesUpdate, self.request("GET", f"{AGL}/resources/{part(resources_id)}"))

    def latest_resources(self) -> ResourcesUpdate | None:
        """The bundle that changed last, or None."""
        return read_optional(ResourcesUpdate, self.request("GET", f"{AGL}/resources/latest"))

    def resources(
        self,
        *,
        resources_id: str | None = None,
        resources_id_contains: str | None = None,
        sort_by: str | None = None,
        sort_order: Literal["asc", "desc"] = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> Page[ResourcesUpdate]:
        """Bundles that match, in the order they were made unless sorted."""
        params = {
            "resources_id": resources_id,
            "resources_id_contains": resources_id_contains,
            "sort_by": sort_by,
            "sort_order": sort_order,
            "limit": limit,
            "offset": offset,
        }
        return read_page(ResourcesUpdate, self.request("GET", f"{AGL}/resources", params=params))
