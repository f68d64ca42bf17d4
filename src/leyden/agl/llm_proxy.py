"""`LLMProxy`: Agent Lightning's name for a gateway that a program starts itself.

Promises: the addresses, resources and calls of Agent Lightning 0.3's, recorded in a Leyden store. It serves in a thread of this
process, whatever launch mode is asked for. Refuses to know: protocols, upstreams, SQL.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from leyden.agl.resources import LLM, ProxyLLM
from leyden.gateway.config import GatewayConfig
from leyden.sdk.client import Client
from leyden.sdk.rollout_url import rollout_url
from leyden.server.background import BackgroundServer
from leyden.server.gateway import gateway_of
from leyden.server.port import free_port, url_of
from leyden.settings import ROLES, Settings

log = logging.getLogger("leyden.agl")

Models = Sequence[Mapping[str, Any]]
Store = str | Client | None
"""A server's URL, or a client of one; a SQLite path or PostgreSQL URL; None for LEYDEN_URL, else the default database."""


class LLMProxy:
    """A gateway over the models of a LiteLLM `model_list`, recording into `store`.

    port: a free one when None. host: to bind; default this machine alone, others want a key or LEYDEN_OPEN_BIND. litellm_config: of it,
    `model_list` is read. num_retries: further tries of a failed call. Whatever else Agent Lightning's takes is accepted and changes
    nothing, which is logged: streaming, token ids and recording come with the gateway.

    Raises BadInput for a list that cannot be right.
    """

    def __init__(
        self,
        port: int | None = None,
        model_list: Models | None = None,
        store: Store = None,
        host: str | None = None,
        litellm_config: Mapping[str, Any] | None = None,
        num_retries: int = 0,
        **without_effect: Any,
    ) -> None:
        if without_effect:
            log.warning("LLMProxy takes %s without effect", ", ".join(sorted(without_effect)))
        self._host = host or "127.0.0.1"
        self._port = port or free_port(self._host)
        self._num_retries = num_retries
        self._store: Store = store
        self._server: BackgroundServer | None = None
        self._own_client: Client | None = None
        self._lock = threading.RLock()
        self.update_model_list(model_list or (litellm_config or {}).get("model_list") or [])

    async def start(self) -> None:
        """Serve. Raises LeydenError when the port is taken or the store does not open."""
        await asyncio.to_thread(self.start_now)

    async def stop(self) -> None:
        """End, with everything stored; running calls may finish. Stopping what does not run is fine."""
        await asyncio.to_thread(self.stop_now)

    async def restart(self) -> None:
        """Stop and start, with the models and the store as they are now, on the same port."""
        await self.stop()
        await self.start()

    def start_now(self) -> None:
        """`start` for code without an event loop."""
        with self._lock:
            if self.is_running():
                return
            settings, client = self._place()
            gateway = gateway_of(self._config, send_to=client)
            self._server = BackgroundServer(settings, gateway_from=gateway)

    def stop_now(self) -> None:
        """`stop` for code without an event loop."""
        with self._lock:
            if self._server is not None:
                self._server.close()
            if self._own_client is not None:
                self._own_client.close()
            self._server = self._own_client = None

    @property
    def url(self) -> str:
        """Where it is reached from this machine, without /v1."""
        return url_of(self._settings())

    def is_running(self) -> bool:
        """Whether it serves."""
        return self._server is not None and self._server.is_running

    def update_model_list(self, model_list: Models) -> None:
        """Other models, from the next start on. Raises BadInput."""
        read = GatewayConfig.from_model_list(model_list)
        retry = read.gateway.retry.model_copy(update={"tries": min(self._num_retries, 19) + 1})
        self._config = read.model_copy(update={"gateway": read.gateway.model_copy(update={"retry": retry})})

    def get_store(self) -> Store:
        """Where calls are recorded, as it was given."""
        return self._store

    def set_store(self, store: Store) -> None:
        """Record elsewhere, from the next start on."""
        self._store = store

    def as_resource(
        self,
        rollout_id: str | None = None,
        attempt_id: str | None = None,
        model: str | None = None,
        sampling_parameters: dict[str, Any] | None = None,
    ) -> LLM:
        """What an agent is given: a `ProxyLLM`, or the `LLM` of one attempt when both ids are given.

        model: may be left out when there is one. Raises ValueError for one id without the other, and for a model that is not clear.
        """
        if (rollout_id is None) != (attempt_id is None):
            raise ValueError("rollout_id and attempt_id belong together: give both, or neither")
        endpoint = self.url
        name, parameters = model or self._only_model(), sampling_parameters or {}
        if rollout_id is None:
            return ProxyLLM(endpoint=endpoint, model=name, sampling_parameters=parameters)
        url = rollout_url(endpoint, rollout_id, attempt_id)
        return LLM(endpoint=url, model=name, sampling_parameters=parameters)

    def _only_model(self) -> str:
        names = list(self._config.models)
        if len(names) != 1:
            raise ValueError(
                f"Which model? There are {len(names)}: {', '.join(names) or 'give a model_list'}"
            )
        return names[0]

    def _settings(self) -> Settings:
        roles = ",".join(ROLES)
        return Settings.from_env(url="", api_key="", host=self._host, port=self._port, roles=roles)

    def _place(self) -> tuple[Settings, Client | None]:
        """Settings of the server to start, and the client of the one that records, when that is another."""
        known, here = Settings.from_env(), self._settings()
        store = known.url or None if self._store is None else self._store
        if isinstance(store, str) and store.startswith(("http://", "https://")):
            store = self._own_client = Client(store, key=known.api_key)
        if isinstance(store, Client):
            return replace(here, db=":memory:"), store
        return replace(here, db=store or here.db), None
