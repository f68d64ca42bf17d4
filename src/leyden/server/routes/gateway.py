"""Pause, drain and resume model calls; what the gateway is doing."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from leyden.errors import BadInput
from leyden.server.gateway import missing_extra
from leyden.server.requests import Json, body_of, context_of

if TYPE_CHECKING:
    from leyden.gateway.app import Gateway

router = APIRouter(tags=["gateway"])


class Config(BaseModel):
    """The configuration as `leyden.yaml` has it."""

    model_config = {"extra": "allow"}


class Pause(BaseModel):
    """reason: for people. drain_s: wait so long for the calls in flight to end, seconds; 0 does not wait."""

    reason: str | None = None
    drain_s: float = Field(0.0, ge=0, le=3600)


class Resume(BaseModel):
    """policy_version: of the weights that answer from now on; each call is stamped with it. None leaves it as it is."""

    policy_version: str | None = None


def _gateway(request: Request) -> "Gateway":
    gateway = context_of(request).gateway
    if gateway is None:
        raise missing_extra()
    return gateway


@router.get("/api/gateway")
async def state(request: Request) -> Response:
    """Whether calls are let in, how many are on their way and wait, what was recorded and lost, how upstreams fare."""
    return Json(_state(_gateway(request)))


@router.get("/api/gateway/config")
async def config(request: Request) -> Response:
    """Upstreams, models and rules as they are now; secrets are masked. Needs the scope admin."""
    return Json(_gateway(request).config.model_dump(mode="json"))


@router.put("/api/gateway/config")
async def configure(request: Request, asked: Annotated[Config, body_of(Config)]) -> Response:
    """Use another configuration from now on, in this process and until it ends: `leyden.yaml` stays as it is. `${NAME}` is filled in from the
    environment of the server. Calls under way end as they began. Needs the scope admin.
    """
    from leyden.gateway.config import GatewayConfig

    gateway, given = _gateway(request), asked.model_dump()
    if not given.get("upstreams"):
        # A file may leave them to the environment; whoever sends a configuration means what it says.
        raise BadInput(
            "The configuration names no upstreams", hint="send the whole of it; GET shows what is used now"
        )
    await gateway.use(GatewayConfig.from_dict(given, name="the body"))
    return Json(gateway.config.model_dump(mode="json"))


@router.post("/api/gateway/pause")
async def pause(request: Request, asked: Annotated[Pause, body_of(Pause)]) -> Response:
    """Let no call in from now on: callers wait, up to the limits under `gateway.hold`. `drained` says whether none is left in flight."""
    gateway = _gateway(request)
    gateway.hold.pause(asked.reason)
    drained = await gateway.hold.drained(asked.drain_s) if asked.drain_s else not gateway.hold.in_flight
    return Json({**_state(gateway), "drained": drained})


@router.post("/api/gateway/resume")
async def resume(request: Request, asked: Annotated[Resume, body_of(Resume)]) -> Response:
    """Let calls in again."""
    gateway = _gateway(request)
    gateway.hold.resume(asked.policy_version)
    return Json(_state(gateway))


def _state(gateway: "Gateway") -> dict[str, Any]:
    standing = gateway.upstreams.health.snapshot(now=gateway.upstreams.now())
    return {
        **asdict(gateway.hold.state()),
        "recorded": gateway.capture.counts.recorded,
        "lost": gateway.capture.counts.lost,
        "pending": gateway.capture.pending,
        "upstreams": {name: each._asdict() for name, each in standing.items()},
    }
