"""What a database driver raises, as the error tree says it: locked, full, unwritable, foreign, away, or a request it cannot hold.

Knows the words of SQLite and PostgreSQL; refuses to know what was asked of them.
"""

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from leyden.errors import BadInput, StoreBusy, StoreError, StoreFull, StoreUnwritable

# By number, because words may quote what somebody sent, and waiting for a call that can never be stored would hold up all others.
_READ_ONLY = frozenset({sqlite3.SQLITE_READONLY, "25006"})
_NOT_OPENED = frozenset({sqlite3.SQLITE_CANTOPEN})
_FAILING = frozenset({sqlite3.SQLITE_IOERR, "58030"})


@contextmanager
def translated(label: str) -> Generator[None]:
    """Turn what a driver raises into the error tree, naming the database."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError, OverflowError) as error:
        raise as_store_error(error, label) from error
    except Exception as error:
        if type(error).__module__.startswith("psycopg"):
            raise as_store_error(error, label) from error
        raise


def as_store_error(error: BaseException, label: str) -> StoreError | BadInput:
    """The error that a driver's error means."""
    original = getattr(error, "orig", None) or error
    said = str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__
    low = said.lower()
    if isinstance(original, OverflowError) or "out of range" in low:
        return BadInput(
            "A number in the request is larger than a database can hold",
            hint="whole numbers have at most 64 bits",
        )
    if "nul (0x00)" in low:
        return BadInput("A text in the request holds NUL, which no stored text does", hint="leave it out")
    if (
        "disk is full" in low
        or "no space left" in low
        or "disk full" in low
        or getattr(original, "errno", None) == errno.ENOSPC
    ):
        return StoreFull(
            f"No space left for the database {label}",
            hint="free some space, or run with --db on another disk",
        )
    if (unwritable := _unwritable(original, label, said)) is not None:
        return unwritable
    if "locked" in low or "busy" in low or "deadlock" in low:
        return StoreBusy(
            f"The database {label} is locked by another program",
            hint="try again; `leyden up` may already be using it",
        )
    if "not a database" in low or "malformed" in low:
        return StoreError(f"{label} is not a Leyden database ({said})", hint="give another path with --db")
    if "connect" in low or "closed" in low or "terminating" in low or "shutting down" in low:
        return StoreBusy(
            f"The database {label} does not answer ({said})", hint="check that PostgreSQL is running"
        )
    return StoreError(f"The database {label} failed: {said}")


def _unwritable(original: BaseException, label: str, said: str) -> StoreUnwritable | None:
    number = original.errno if isinstance(original, OSError) else None
    code = getattr(original, "sqlite_errorcode", None)
    code = getattr(original, "sqlstate", None) if code is None else code & 0xFF
    if code in _READ_ONLY or number == errno.EROFS:
        return StoreUnwritable(
            f"The database {label} cannot be written", hint="check the permissions of the file and its folder"
        )
    if code in _NOT_OPENED:
        return StoreUnwritable(
            f"The database {label} cannot be opened", hint="check that its folder exists and may be written"
        )
    if code in _FAILING or number == errno.EIO:
        return StoreUnwritable(f"The disk of the database {label} fails: {said}", hint="check the disk")
    return None
