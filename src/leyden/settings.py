"""Every knob of Leyden, once: name, default, environment variable, unit.

Nothing else reads the environment for configuration. `Settings.from_env()` is called at the edges (CLI, server, SDK);
inner code receives values.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from leyden.errors import BadInput

ROLES = ("api", "ingest", "gateway", "jobs")


def data_dir() -> Path:
    """The user's data directory for Leyden: `$XDG_DATA_HOME/leyden`, else `~/.local/share/leyden`."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "leyden"


def _knob(default: Any, env: str, doc: str) -> Any:
    return field(default=default, metadata={"env": env, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. `docs/reference/settings.md` lists them; a test keeps the two equal."""

    # Where things are
    db: str = _knob(
        "",
        "LEYDEN_DB",
        "SQLite path or PostgreSQL URL; empty means leyden.db under the user's data directory",
    )
    url: str = _knob(
        "", "LEYDEN_URL", "address of a running server; empty means open the database in this process"
    )
    api_key: str = _knob("", "LEYDEN_API_KEY", "key sent with every request")
    host: str = _knob("127.0.0.1", "LEYDEN_HOST", "address the server binds")
    port: int = _knob(4747, "LEYDEN_PORT", "port the server binds")
    log_level: str = _knob("info", "LEYDEN_LOG_LEVEL", "debug, info, warning or error")
    require_keys: bool = _knob(
        False, "LEYDEN_REQUIRE_KEYS", "ask for a key on loopback too; other binds always do"
    )
    roles: str = _knob(
        "api,ingest,gateway,jobs",
        "LEYDEN_ROLES",
        "what this server does: some of api, ingest, gateway and jobs, with commas between",
    )
    open_bind: bool = _knob(False, "LEYDEN_OPEN_BIND", "allow a bind other than loopback without any key")

    # Gateway
    config: str = _knob(
        "",
        "LEYDEN_CONFIG",
        "the gateway's configuration; empty means leyden.yaml in the working directory, or the environment when there is none",
    )

    # Limits of what is accepted
    max_body_bytes: int = _knob(
        64 * 2**20, "LEYDEN_MAX_BODY_BYTES", "largest request body after decompression, bytes"
    )
    max_span_bytes: int = _knob(
        8 * 2**20, "LEYDEN_MAX_SPAN_BYTES", "largest single span, bytes; a larger one is refused alone"
    )
    max_depth: int = _knob(64, "LEYDEN_MAX_DEPTH", "deepest nesting of a JSON body")
    max_id_chars: int = _knob(256, "LEYDEN_MAX_ID_CHARS", "longest id a client may choose, characters")

    native: bool = _knob(
        True, "LEYDEN_NATIVE", "false reads spans in Python also where the decoder in C is installed"
    )

    # Store
    sqlite_synchronous: str = _knob(
        "NORMAL",
        "LEYDEN_SQLITE_SYNCHRONOUS",
        "NORMAL survives a crash of the process, FULL one of the machine",
    )
    busy_timeout_s: float = _knob(
        10.0, "LEYDEN_BUSY_TIMEOUT_S", "how long to wait for a locked database, seconds"
    )
    max_pending_bytes: int = _knob(
        128 * 2**20,
        "LEYDEN_MAX_PENDING_BYTES",
        "payload bytes waiting for the writer before new ones are answered 503",
    )
    max_pending: int = _knob(
        10_000, "LEYDEN_MAX_PENDING", "writes waiting for the writer before new ones are answered 503"
    )

    # Packs
    pack: bool = _knob(True, "LEYDEN_PACK", "false leaves the payloads of ended rollouts as they came")
    pack_after_s: float = _knob(
        5.0, "LEYDEN_PACK_AFTER_S", "how long after its end a rollout is packed, seconds; 0 means at once"
    )
    pack_url: str = _knob(
        "",
        "LEYDEN_PACK_URL",
        "where packs lie: a directory or an fsspec URL such as s3://bucket/prefix; empty means in the database",
    )

    # Rollouts
    lease_s: float = _knob(
        900.0,
        "LEYDEN_LEASE_S",
        "a claimed rollout without a sign of life for this long returns to the queue, seconds",
    )
    quiet_s: float = _knob(
        900.0, "LEYDEN_QUIET_S", "a trace that named no rollout ends after this much silence, seconds"
    )
    watchdog_s: float = _knob(1.0, "LEYDEN_WATCHDOG_S", "pause between two scans of the watchdog, seconds")
    max_wait_s: float = _knob(3600.0, "LEYDEN_MAX_WAIT_S", "longest long-poll, seconds")

    # How much is kept where a project has no policy of its own
    keep_days: float = _knob(
        0.0, "LEYDEN_KEEP_DAYS", "ended rollouts older than this are deleted, days; 0 keeps them"
    )
    keep_bytes: int = _knob(
        0,
        "LEYDEN_KEEP_BYTES",
        "the oldest ended rollouts of a project are deleted while its payloads are larger, bytes; 0 keeps them",
    )
    retention_s: float = _knob(
        300.0, "LEYDEN_RETENTION_S", "pause between two runs of retention, seconds; 0 never runs it"
    )

    # SDK
    sdk_enabled: bool = _knob(True, "LEYDEN_ENABLED", "false turns tracing off: nothing is recorded or sent")
    sdk_buffer_spans: int = _knob(
        20_000, "LEYDEN_BUFFER_SPANS", "spans held in memory before the newest are dropped and counted"
    )
    sdk_batch_spans: int = _knob(512, "LEYDEN_BATCH_SPANS", "spans per export request")
    sdk_flush_s: float = _knob(
        1.0, "LEYDEN_FLUSH_S", "longest a finished span waits before it is sent, seconds"
    )
    sdk_spool_bytes: int = _knob(
        256 * 2**20,
        "LEYDEN_SPOOL_BYTES",
        "disk space for spans while the server is away, bytes; 0 turns the spool off",
    )
    sdk_spool_dir: str = _knob(
        "", "LEYDEN_SPOOL_DIR", "where the spool lies; empty means spool/ under the user's data directory"
    )
    sdk_timeout_s: float = _knob(10.0, "LEYDEN_TIMEOUT_S", "one export request, seconds")
    sdk_sample: float = _knob(1.0, "LEYDEN_SAMPLE", "share of rollouts recorded, 0 to 1")
    debug: bool = _knob(False, "LEYDEN_DEBUG", "print finished spans to the console")

    @property
    def database_url(self) -> str:
        """The database as given, or the default file under the user's data directory."""
        return self.db or str(data_dir() / "leyden.db")

    @property
    def roles_here(self) -> frozenset[str]:
        """The roles as a set. Raises BadInput for one that does not exist."""
        roles = frozenset(role.strip() for role in self.roles.split(","))
        if unknown := roles - set(ROLES):
            raise BadInput(
                f"{min(unknown)!r} is no role of a server", hint=f"use some of: {', '.join(ROLES)}"
            )
        return roles

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Settings from the environment; overrides that are not None win.

        Raises BadInput that names the variable, the value and what is allowed.
        """
        source = os.environ if env is None else env
        read = {
            f.name: _parse(f.metadata["env"], source[f.metadata["env"]], f.default)
            for f in fields(cls)
            if source.get(f.metadata["env"])
        }
        return replace(cls(**read), **{k: v for k, v in overrides.items() if v is not None})


_BOOLS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _parse(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.strip().lower() not in _BOOLS:
            raise BadInput(
                f"{name}={text!r} is not a yes or no", hint="use 1, true, yes, on, 0, false, no or off"
            )
        return _BOOLS[text.strip().lower()]
    if isinstance(default, str):
        return text
    try:
        value = type(default)(text)
    except ValueError:
        raise BadInput(f"{name}={text!r} is not a number") from None
    if value < 0:
        raise BadInput(f"{name}={text!r} is negative")
    return value
