"""Frames of packs as objects at an fsspec URL: a directory or a bucket.

Owns: writing, reading and removing one object. Promises: what `put` returned from is durable; an object that is not there
is None, a place that does not answer is StoreBusy, a package that is missing is MissingExtra.
Refuses to know: what is in an object, and which objects there should be.
"""

import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from leyden.errors import BadInput, MissingExtra, StoreBusy

R = TypeVar("R")

# A place that is away must not hold a request for the minutes that its client would try.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 3, "read_timeout": 20, "retries": {"max_attempts": 1}}}
}
_EXTRAS = {"s3": 'pip install "leyden[s3]"'}


def base_url(given: str) -> str:
    """The place that a setting names, as a URL without a slash at its end; "" for the database itself.

    Raises BadInput for a kind of place nobody speaks, MissingExtra when its package is not installed.
    """
    if not given:
        return ""
    if "://" not in given:
        given = f"file://{Path(given).expanduser().absolute()}"
    _open(given)
    return given.rstrip("/")


def new_url(base: str, *, now: float) -> str:
    """A fresh place for one object, under the day; never given twice."""
    return f"{base}/{datetime.fromtimestamp(now, UTC):%Y/%m/%d}/{uuid.uuid4().hex}.zst"


def put(url: str, content: bytes) -> None:
    """Write an object, durably. Raises StoreBusy, MissingExtra."""
    try:
        _asked(url, lambda fs, path: _put(fs, path, content))
    except FileNotFoundError as error:
        raise _away(url, "there is no such bucket") from error


def get(url: str) -> bytes | None:
    """An object, or None when there is none. Raises StoreBusy, MissingExtra."""
    try:
        return _asked(url, lambda fs, path: fs.cat_file(path))
    except FileNotFoundError:
        return None


def remove(url: str) -> None:
    """Remove an object; one that is not there is fine. Raises StoreBusy, MissingExtra."""
    try:
        _asked(url, lambda fs, path: fs.rm_file(path))
    except FileNotFoundError:
        return


def _put(fs: Any, path: str, content: bytes) -> None:
    if not _is_local(fs):
        fs.pipe_file(path, content)
        return
    fs.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # the rows that held it are deleted next


def _is_local(fs: Any) -> bool:
    return "file" in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)


def _asked(url: str, ask: Callable[[Any, str], R]) -> R:
    fs, path = _open(url)
    try:
        return ask(fs, path)
    except FileNotFoundError:
        raise
    except Exception as error:  # every kind of place has errors of its own
        raise _away(url, str(error) or type(error).__name__) from error


def _away(url: str, why: str) -> StoreBusy:
    return StoreBusy(
        f"Packs at {url} cannot be reached ({why})",
        hint="try again; if it stays so, check LEYDEN_PACK_URL, the network and the credentials",
    )


def _open(url: str) -> tuple[Any, str]:
    kind = url.split("://")[0]
    try:
        # Here, because it costs start-up 30 ms, and most stores have no bucket.
        from fsspec import core  # pyright: ignore[reportMissingTypeStubs]

        opened: tuple[Any, str] = core.url_to_fs(url, **_OPTIONS.get(kind, {}))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return opened
    except ImportError as error:
        raise MissingExtra(
            f"Packs at {kind}:// need a package that is not installed ({error})", hint=_EXTRAS.get(kind)
        ) from None
    except ValueError as error:
        raise BadInput(
            f"Packs cannot lie at {url!r}: {error}",
            hint="give LEYDEN_PACK_URL a directory or a URL such as s3://bucket/prefix",
        ) from None
