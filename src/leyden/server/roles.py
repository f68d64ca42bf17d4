"""What a replica serves: `api` everything people and runners ask for, `ingest` what sends spans and runs, `gateway` model calls,
`jobs` no request.

Promises: health, readiness and metrics are served by every replica. A request for another role is refused with its name, so
that a load balancer that sends it to the wrong place is noticed.
"""

from leyden.errors import NotFound
from leyden.gateway import doors
from leyden.settings import ROLES, Settings

INGEST = ("/v1/traces", "/v1/logs", "/v1/metrics", "/v1/agl/spans", "/api/runs")
CONTROL = "/api/gateway"
EVERYWHERE = frozenset({"/healthz", "/readyz", "/metrics", "/v1/agl/health"})


def role_of(method: str, path: str) -> str | None:
    """The role that serves a request; None: every replica does."""
    if path in EVERYWHERE:
        return None
    if path.startswith(CONTROL) or doors.find(method, path) is not None:
        return "gateway"
    is_sent = method == "POST" and path.startswith(INGEST) and not path.endswith("/search")
    return "ingest" if is_sent else "api"


class Roles:
    """Refuses what this replica is not there for."""

    def __init__(self, settings: Settings) -> None:
        self._here = settings.roles_here
        self._has_all = self._here == frozenset(ROLES)

    def check(self, method: str, path: str) -> None:
        """Raises NotFound for a request that another replica serves."""
        if self._has_all:
            return
        role = role_of(method, path)
        if role is not None and role not in self._here:
            raise NotFound(
                f"This replica does not serve {path}", hint=f"send it to one with the role {role!r} (--roles)"
            )
