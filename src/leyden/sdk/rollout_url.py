"""The address of a gateway as one attempt of a rollout calls it. Pure.

Agent Lightning 0.3's rule: one slash at the end goes; `/v1` at the end stays at the end.
"""

from urllib.parse import quote

from leyden.errors import BadInput


def rollout_url(endpoint: str, rollout_id: str | None, attempt_id: str | None) -> str:
    """`http://host:4747/v1` → `http://host:4747/rollout/ro-7/attempt/at-1/v1`; without ids the endpoint as it is.

    Raises BadInput when only one of the ids is given.
    """
    if rollout_id is None and attempt_id is None:
        return endpoint
    if rollout_id is None or attempt_id is None:
        raise BadInput("rollout_id and attempt_id belong together", hint="give both, or neither")
    base = endpoint.removesuffix("/")
    version = "/v1" if base.endswith("/v1") else ""
    base = base.removesuffix("/v1")
    return f"{base}/rollout/{quote(rollout_id, safe='')}/attempt/{quote(attempt_id, safe='')}{version}"
