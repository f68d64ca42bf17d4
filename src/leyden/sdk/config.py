"""Switching the SDK on and off: `init`, `flush`, `shutdown`, and the one running configuration.

Promises: nothing of this process is touched before `init`, and nothing at all when `sdk_enabled` is false (no thread, no
file, no socket). The global OpenTelemetry provider stays the application's unless `set_global=True`.
"""

import atexit
import logging
import os
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from leyden.errors import BadInput
from leyden.sdk.context import RolloutSampler
from leyden.sdk.export import EXIT_S, Exporter, RolloutSpans, Stats, finish_with_multiprocessing
from leyden.sdk.spans import OwnTracer, cuts_values
from leyden.sdk.spool import Spool
from leyden.sdk.wire import DEFAULT_URL, Wire
from leyden.settings import Settings, data_dir

if TYPE_CHECKING:
    from leyden.sdk.client import Client

log = logging.getLogger("leyden")


@dataclass(frozen=True)
class Config:
    """What `init` set up. `enabled` False records and sends nothing."""

    url: str
    service_name: str
    agent: str | None
    settings: Settings

    @property
    def enabled(self) -> bool:
        """Whether anything is recorded."""
        return self.settings.sdk_enabled


@dataclass(frozen=True)
class Running:
    """A configuration at work. `arguments` are those of the first `init`, to notice a different second one."""

    config: Config
    arguments: dict[str, Any]
    tracer: Tracer | OwnTracer
    exporter: Exporter
    provider: TracerProvider | None


_lock = threading.RLock()
_first: tuple[Config, dict[str, Any]] | None = None
_warned = False
running: Running | None = None
"""The SDK at work, or None: before `init`, after `shutdown`, and when it is switched off."""


def init(
    url: str | None = None,
    *,
    service_name: str | None = None,
    agent: str | None = None,
    api_key: str | None = None,
    tracer_provider: TracerProvider | None = None,
    client: "Client | None" = None,
    set_global: bool = False,
    **settings: Any,
) -> Config:
    """Start recording and return the configuration. A second call returns the first one (and warns once if it asked for another).

    url: address of the server; default `LEYDEN_URL`, else http://127.0.0.1:4747.
    service_name: names this process in every span; default `OTEL_SERVICE_NAME`, else "agent".
    agent: name stamped on spans that no `trace.agent` encloses.
    tracer_provider: a provider the application already has; ours is not created, and its spans are recorded too.
    client: send through this client instead, for example one with an in-process server.
    set_global: install our provider as OpenTelemetry's global one, so that other instrumentations record to it.
    settings: knobs of `Settings`, with or without the prefix `sdk_`: `sample=0.1`, `enabled=False`, `flush_s=0.2`.

    Raises BadInput for an unknown or impossible setting; never because a server is away.
    """
    global _first, _warned, running
    arguments: dict[str, Any] = {
        "url": url,
        "service_name": service_name,
        "agent": agent,
        "api_key": api_key,
        "tracer_provider": tracer_provider,
        "client": client,
        "set_global": set_global,
        **settings,
    }
    with _lock:
        if _first is not None:
            config, asked = _first
            if asked != arguments and not _warned:
                _warned = True
                log.warning(
                    "leyden.init was called again with other arguments; the first configuration stays"
                )
            return config
        read = _settings(url, api_key, settings)
        config = Config(
            url=client.url if client is not None else read.url or DEFAULT_URL,
            service_name=service_name or os.environ.get("OTEL_SERVICE_NAME") or "agent",
            agent=agent,
            settings=read,
        )
        _first = (config, arguments)
        if config.enabled:
            running = _start(
                config, arguments, tracer_provider=tracer_provider, client=client, set_global=set_global
            )
        return config


def flush(timeout_s: float = 5.0) -> bool:
    """Send what was recorded so far; True when the server has all of it, or nothing is recorded.

    False when the server did not take it within `timeout_s` seconds: it then waits on disk and is sent later.
    """
    at_work = running
    return at_work.exporter.flush(timeout_s) if at_work else True


def shutdown(timeout_s: float = 5.0) -> None:
    """Flush, stop and forget the configuration; `init` may be called again."""
    global _first, _warned, running
    with _lock:
        at_work, running = running, None
        _first, _warned = None, False
    if at_work is None:
        return
    at_work.exporter.close(timeout_s)
    if at_work.provider is not None:
        at_work.provider.shutdown()


def stats() -> Stats:
    """Counts of spans recorded, sent and lost since `init`."""
    at_work = running
    return at_work.exporter.stats() if at_work else Stats()


def _settings(url: str | None, api_key: str | None, given: dict[str, Any]) -> Settings:
    known = {f.name for f in fields(Settings)}
    overrides: dict[str, Any] = {}
    for name, value in given.items():
        full = name if name in known else f"sdk_{name}"
        if full not in known:
            allowed = ", ".join(sorted(n.removeprefix("sdk_") for n in known if n.startswith("sdk_")))
            raise BadInput(f"leyden.init knows no setting {name!r}", hint=f"use one of {allowed}, debug")
        overrides[full] = value
    read = Settings.from_env(None, url=url, api_key=api_key, **overrides)
    if not 0.0 <= read.sdk_sample <= 1.0:
        raise BadInput(f"sample={read.sdk_sample!r} is not a share between 0 and 1")
    return read


def _start(
    config: Config,
    arguments: dict[str, Any],
    *,
    tracer_provider: TracerProvider | None,
    client: "Client | None",
    set_global: bool,
) -> Running:
    settings = config.settings
    exporter = Exporter(
        open_wire=lambda: client.wire if client is not None else _wire(config),
        spool=lambda: None if client is not None and client.wire.in_process else _spool(config),
        buffer_spans=settings.sdk_buffer_spans,
        batch_spans=settings.sdk_batch_spans,
        flush_s=settings.sdk_flush_s,
        owns_wire=client is None,
    )
    sampler = RolloutSampler(settings.sdk_sample)
    own = None if tracer_provider is not None else _provider(config, sampler)
    provider = tracer_provider or own
    assert provider is not None
    provider.add_span_processor(RolloutSpans(exporter, sampler=sampler, agent=config.agent))
    if settings.debug:
        _print_spans(provider)
    if set_global and own is not None:
        from opentelemetry.trace import set_tracer_provider

        set_tracer_provider(own)
    if client is not None:
        client.wire.on_close(lambda: exporter.flush(EXIT_S))
    exporter.start_if_left_over()
    _watch_process_end()
    others_look = own is None or set_global or cuts_values()
    tracer = provider.get_tracer("leyden") if others_look else OwnTracer(provider, "leyden")
    return Running(config, arguments, tracer, exporter, own)


def _provider(config: Config, sampler: RolloutSampler) -> TracerProvider:
    resource = Resource.create({"service.name": config.service_name})
    # Our own exit handler knows about the spool and the time limit.
    return TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)


def _print_spans(provider: TracerProvider) -> None:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    provider.add_span_processor(
        SimpleSpanProcessor(
            ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + os.linesep)
        )
    )


def _wire(config: Config) -> Wire:
    return Wire(config.url, key=config.settings.api_key, timeout_s=config.settings.sdk_timeout_s)


def _spool(config: Config) -> Spool | None:
    settings = config.settings
    if settings.sdk_spool_bytes <= 0:
        return None
    import hashlib

    base = Path(settings.sdk_spool_dir) if settings.sdk_spool_dir else data_dir() / "spool"
    destination = hashlib.sha256(f"{config.url}\0{settings.api_key}".encode()).hexdigest()[:16]
    return Spool(base / destination, limit_bytes=settings.sdk_spool_bytes)


_watching = False


def _watch_process_end() -> None:
    global _watching
    if _watching:
        return
    _watching = True
    atexit.register(_at_exit)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _at_exit() -> None:
    if running is not None:
        running.exporter.close(EXIT_S)


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    if running is not None:
        running.exporter.after_fork()
        finish_with_multiprocessing(running.exporter)
