"""What a named deployment ("support-agent@production") runs with now: model, sampling parameters, system prompt, and their version.

A deployment serves the newest version of the resources stored under its name, so storing a new version changes what agents run with,
without a deploy. Looked up in the store at most every `FRESH_S` seconds; while the store is away the last answer serves on.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from leyden.errors import LeydenError
from leyden.ingest.shapes import is_object
from leyden.store import resources
from leyden.store.opening import Store

log = logging.getLogger("leyden.gateway")

FRESH_S = 2.0


class Served(NamedTuple):
    """One version of a deployment's resources. model and system None: it says nothing of them."""

    deployment: str
    resources_id: str
    version: int
    model: str | None
    parameters: Mapping[str, Any]
    system: str | None
    prompt_name: str | None

    def attributes(self) -> dict[str, str]:
        """For the span, without the prefix `leyden.`."""
        found = {
            "deployment": self.deployment,
            "resources.id": self.resources_id,
            "resources.version": str(self.version),
        }
        return found if self.prompt_name is None else found | {"resources.prompt": self.prompt_name}


class Deployments:
    """Deployments by project and name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str, str | None], tuple[float, Served | None]] = {}

    def fresh(self, project: str, name: str, template: str | None) -> Served | None:
        """What is known without looking. Raises KeyError when that is nothing, or too old."""
        seen, served = self._known[project, name, template]
        if time.monotonic() - seen > FRESH_S:
            raise KeyError(name)
        return served

    def look_up(self, project: str, name: str, template: str | None) -> Served | None:
        """What it serves now; None when nothing is stored under its name. Touches the database: for a thread."""
        key = (project, name, template)
        try:
            with self._store.database.read() as tx:
                row = resources.get(tx, project=project, resources_id=name)
        except LeydenError as error:
            log.warning("deployment %s is served as it was: %s", name, error.message)
            served = self._known.get(key, (0.0, None))[1]
        else:
            served = None if row is None else _served(name, row.version, orjson.loads(row.content), template)
        self._known[key] = (time.monotonic(), served)
        return served


def _served(name: str, version: int, content: Any, template: str | None) -> Served:
    named = {key: value for key, value in content.items() if is_object(value)} if is_object(content) else {}
    models = [value for value in named.values() if value.get("resource_type") in ("llm", "proxy_llm")]
    prompts = {k: v for k, v in named.items() if v.get("resource_type") == "prompt_template"}
    wanted = template if template in prompts else None
    system = prompts[wanted].get("template") if wanted is not None else None
    model = models[0] if models else {}
    return Served(
        name,
        name,
        version,
        model.get("model") or None,
        model.get("sampling_parameters") or {},
        system,
        wanted,
    )
