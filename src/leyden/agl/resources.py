"""Agent Lightning's model resources: `LLM`, an address an agent calls; `ProxyLLM`, a gateway that is called per rollout.

They are the resources of `leyden.types` with Agent Lightning's methods, and read the same JSON.
"""

import logging
from typing import Any, Literal

from pydantic import BaseModel, Field

from leyden.errors import BadInput
from leyden.sdk.rollout_url import rollout_url
from leyden.types import AttemptedRollout

log = logging.getLogger("leyden.agl")


class LLM(BaseModel):
    """A model endpoint. endpoint: the base URL, with or without /v1."""

    resource_type: Literal["llm", "proxy_llm"] = "llm"
    endpoint: str
    model: str
    api_key: str | None = None
    sampling_parameters: dict[str, Any] = Field(default_factory=dict)

    def get_base_url(self, *ignored: Any) -> str:
        """The endpoint, whoever asks."""
        return self.endpoint


class ProxyLLM(LLM):
    """A model endpoint behind a gateway that records per rollout."""

    resource_type: Literal["llm", "proxy_llm"] = "proxy_llm"

    def __getattribute__(self, name: str) -> Any:
        if name == "endpoint":
            log.warning("ProxyLLM.endpoint names no rollout: get_base_url(rollout_id, attempt_id) does")
        return super().__getattribute__(name)

    def get_base_url(
        self, rollout_id: str | None = None, attempt_id: str | None = None, *ignored: Any
    ) -> str:
        """The gateway's address for an attempt; the plain endpoint without ids. Raises ValueError when one is missing."""
        try:
            return rollout_url(self.__dict__["endpoint"], rollout_id, attempt_id)
        except BadInput as error:
            raise ValueError(error.message) from error

    def with_attempted_rollout(self, rollout: AttemptedRollout) -> LLM:
        """The endpoint as this attempt calls it."""
        return LLM(
            endpoint=self.get_base_url(rollout.rollout_id, rollout.attempt.attempt_id),
            model=self.model,
            api_key=self.api_key,
            sampling_parameters=self.sampling_parameters,
        )
