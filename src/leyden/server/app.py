"""The server as one ASGI application: the hot routes as bare ASGI, FastAPI for the rest."""

import gc
import time
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

import leyden
from leyden.asgi import (
    Receive,
    Reply,
    Scope,
    Send,
    Unprocessable,
    error_reply,
    raw_path,
    send_reply,
    unexpected_reply,
)
from leyden.errors import BadInput, LeydenError, NotFound
from leyden.gateway import doors
from leyden.gateway.refusals import refusal
from leyden.ingest import native
from leyden.server import openapi
from leyden.server.auth import Guard
from leyden.server.context import Context
from leyden.server.gateway import OpenGateway, missing_extra, open_gateway
from leyden.server.hot import ATTEMPT, answer, match
from leyden.server.jobs import Jobs
from leyden.server.metrics import GatewayState, Meter, WriterState
from leyden.server.roles import Roles
from leyden.server.routes import (
    database,
    events,
    findings,
    gateway,
    health,
    keys,
    metrics,
    otlp,
    packs,
    prices,
    resources,
    rollouts,
    runs,
    scores,
    search,
    spans,
    spend,
    transfer,
    workers,
)
from leyden.settings import Settings
from leyden.store.opening import open_store

HOT = {**rollouts.HOT, **spans.HOT, **otlp.HOT, **health.HOT}
ROUTERS = [
    rollouts, spans, resources, workers, runs, findings, search, scores, metrics, events, transfer, keys, prices, spend, database,
    packs, gateway, health,
]  # fmt: skip


class Server:
    """The whole server as an ASGI application: who calls, a hot route or FastAPI, and a count of it.

    Written out once instead of as a chain of middlewares: each link would cost every request a coroutine.
    """

    def __init__(self, context: Context, api: FastAPI, registry: CollectorRegistry) -> None:
        self.context = context
        self.api = api
        self._guard = Guard(context)
        self._meter = Meter(registry)
        self._roles = Roles(context.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        began = time.perf_counter()
        path, method, status = scope["path"], scope["method"], 499
        handler, params = match(HOT, method, path)
        door = doors.find(method, raw_path(scope)) if handler is None else None
        template = "(refused)"
        try:
            caller = await self._guard.caller(scope)
            self._roles.check(method, path)
            if handler is not None:
                template = ATTEMPT if params else path
                reply = await answer(
                    handler, self.context, project=caller.project, scope=scope, params=params, receive=receive
                )
                await send_reply(send, reply)
                status = reply.status
            elif door is not None:
                template = f"gateway/{door.door}"
                if self.context.gateway is None:
                    raise missing_extra()
                status = await self.context.gateway.serve(
                    door, scope, receive, send, project=caller.project, key=caller.key
                )
            else:
                scope["leyden.project"] = caller.project
                status = await self._serve_cold(scope, receive, send)
                template = getattr(scope.get("route"), "path", "(none)")
        except LeydenError as error:
            await send_reply(send, error_reply(error) if door is None else _refused(error, door))
            status = error.status
        finally:
            self._meter.count(template, method, status, time.perf_counter() - began)

    async def _serve_cold(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = 499

        async def watching(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self.api(scope, receive, watching)
        return status


def create_app(settings: Settings, *, gateway_from: OpenGateway = open_gateway) -> Server:
    """Open the database of the settings and build the server on it. The lifespan runs the jobs and closes the store.

    gateway_from: opens its gateway; by default as the settings say.

    Raises what `open_store` raises: better now, in one line, than at the first request.
    """
    native.use(settings.native)
    context = Context(settings, open_store(settings), started=time.time())
    context.gateway = gateway_from(context.store, settings, prices=context.prices)
    context.store.writer.listeners += [context.bell.ring, context.watchers.tell]
    registry = CollectorRegistry()
    registry.register(WriterState(context))
    registry.register(GatewayState(context))

    app = FastAPI(title="Leyden", version=leyden.__version__, lifespan=partial(_lifespan, context))
    app.state.leyden = context
    app.state.metrics = registry
    for module in ROUTERS:
        app.include_router(module.router)
    app.openapi = lambda: openapi.document(app, [module.router for module in ROUTERS], HOT)
    app.add_exception_handler(LeydenError, _answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)
    return Server(context, app, registry)


@asynccontextmanager
async def _lifespan(context: Context, app: FastAPI) -> AsyncGenerator[None]:
    listener = context.listen()
    jobs = Jobs(context)
    # What start-up made lives as long as the process; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        context.drain()
        listener.close()
        if context.gateway is not None:
            await context.gateway.close()
        jobs.stop()
        context.store.close()


def _refused(error: LeydenError, door: doors.Address) -> Reply:
    """A model call that did not reach the gateway, told in its client's protocol."""
    status, headers, body = refusal(error, door.family)
    return Reply(status, body, headers=tuple(headers[1:]))


def _respond(reply: Reply) -> Response:
    response = Response(reply.body, reply.status, media_type=reply.content_type.decode())
    for name, value in reply.headers:
        response.headers[name.decode()] = value.decode()
    return response


async def _answer(request: Request, error: Any) -> Response:
    return _respond(error_reply(error))


async def _answer_invalid(request: Request, error: Any) -> Response:
    detail = [{"type": e["type"], "loc": list(e["loc"]), "msg": e["msg"]} for e in error.errors()]
    where = ".".join(str(part) for part in detail[0]["loc"])
    return _respond(
        error_reply(Unprocessable(f"The request does not fit: {where}: {detail[0]['msg']}", detail))
    )


async def _answer_http(request: Request, error: Any) -> Response:
    if error.status_code == 404:
        return _respond(
            error_reply(NotFound("Not Found", hint=f"nothing is served at {request.url.path}; see /docs"))
        )
    refused = BadInput(str(error.detail))
    refused.status = error.status_code
    return _respond(error_reply(refused))


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    return _respond(unexpected_reply(error))
