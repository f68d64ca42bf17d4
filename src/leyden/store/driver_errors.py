"""What a database driver raises, as the error tree says it: locked, full, foreign, away, or a request it cannot hold.

Knows the words of SQLite and PostgreSQL; refuses to know what was asked of them.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from leyden.errors import BadInput, StoreBusy, StoreError, StoreFull


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
        or getattr(original, "errno", None) == 28
    ):
        return StoreFull(
            f"No space left for the database {label}",
            hint="free some space, or run with --db on another disk",
        )
    if "locked" in low or "busy" in low or "deadlock" in low:
        return StoreBusy(
            f"The database {label} is locked by another program",
            hint="try again; `leyden up` may already be using it",
        )
    if "not a database" in low or "malformed" in low:
        return StoreError(f"{label} is not a Leyden database ({said})", hint="give another path with --db")
    if "readonly" in low or "read-only" in low:
        return StoreError(
            f"The database {label} cannot be written", hint="check the permissions of the file and its folder"
        )
    if "unable to open" in low:
        return StoreError(
            f"The database {label} cannot be opened", hint="check that its folder exists and may be written"
        )
    if "connect" in low or "closed" in low or "terminating" in low or "shutting down" in low:
        return StoreBusy(
            f"The database {label} does not answer ({said})", hint="check that PostgreSQL is running"
        )
    return StoreError(f"The database {label} failed: {said}")
