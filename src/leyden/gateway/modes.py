"""The mode (train, val, test) of the rollouts that call, for those calls whose address does not say it. Remembered: a mode stays."""

import logging
from collections import OrderedDict

from leyden.errors import LeydenError
from leyden.store import rollouts
from leyden.store.opening import Store

log = logging.getLogger("leyden.gateway")

REMEMBERED = 10_000


class Modes:
    """Modes by project and rollout."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], str | None] = OrderedDict()

    def known(self, project: str, rollout_id: str) -> str | None:
        """The mode, or None for a rollout without one. Raises KeyError when nobody has looked yet."""
        return self._known[project, rollout_id]

    def look_up(self, project: str, rollout_id: str) -> str | None:
        """Ask the store, and remember what it says of a rollout that it knows. Touches the database: for a thread."""
        try:
            with self._store.database.read() as tx:
                row = rollouts.find(tx, rollout_id, project=project)
        except LeydenError as error:
            log.warning("the mode of rollout %s is not known: %s", rollout_id, error.message)
            return None
        if row is None:
            return None
        self._known[project, rollout_id] = row.mode
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return row.mode
