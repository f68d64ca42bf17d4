"""Keys: who may do what in which project, and how much. Only a hash is stored; the key itself is shown once, when it is made.

Refuses to know: how limits are held to (`gateway/limits.py`); what is kept here is what they are.

The hash is one round of SHA-256: a key has 256 random bits, so there is nothing to guess that a slow hash would protect.
"""

import hashlib
import secrets
from typing import Literal, NamedTuple

import sqlalchemy as sa

from leyden.errors import BadInput, NotFound
from leyden.ingest.text import scrubbed
from leyden.store import tables
from leyden.store.engine import Tx
from leyden.store.sql import Statement
from leyden.types import KeyLimits

t = tables.key
Scope = Literal["ingest", "read", "run", "gateway", "admin"]
CHANGED = "keys"  # the notice that some key is refused from now on
SCOPES: tuple[Scope, ...] = ("ingest", "read", "run", "gateway", "admin")
UNLIMITED = KeyLimits()


ADD_PROJECT = Statement(
    lambda insert: (
        insert(tables.project)
        .values(name=sa.bindparam("name"), create_time=sa.bindparam("create_time"))
        .on_conflict_do_nothing()
    )
)


class KeyRow(NamedTuple):
    """A key without its secret. `revoke_time` is set once it is refused."""

    id: str
    project: str
    name: str
    scopes: tuple[str, ...]
    create_time: float
    revoke_time: float | None
    limits: KeyLimits = UNLIMITED

    def is_expired(self, now: float) -> bool:
        """Whether its time is over; now: unix seconds."""
        return self.limits.expire_time is not None and now >= self.limits.expire_time


def create(
    tx: Tx, *, project: str, name: str, scopes: list[str], now: float, limits: KeyLimits = UNLIMITED
) -> tuple[KeyRow, str]:
    """Make a key; returns its row and the key itself, which nobody can read again. Makes the project on first use.

    Raises BadInput for a scope nobody knows, for limits of which some can never be met, and for an attempt without its rollout.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise BadInput(
            f"Unknown scope {unknown[0]!r}" if unknown else "A key needs at least one scope",
            hint=f"use some of: {', '.join(SCOPES)}",
        )
    _check(limits, now=now)
    secret = f"lk_{secrets.token_urlsafe(32)}"
    row = KeyRow(
        f"key-{secrets.token_hex(4)}", project, name, tuple(dict.fromkeys(scopes)), now, None, limits
    )
    tx.hot(ADD_PROJECT, name=project, create_time=now)
    kept = {"scopes": " ".join(row.scopes), "hash": hashed(secret), "limits": _as_text(limits)}
    tx.run(sa.insert(t), {**row._asdict(), **kept})
    return row, secret


def _check(limits: KeyLimits, *, now: float) -> None:
    if limits.attempt_id is not None and limits.rollout_id is None:
        raise BadInput("A key for an attempt needs its rollout too", hint="give rollout_id")
    if limits.expire_time is not None and limits.expire_time <= now:
        raise BadInput("The key would be expired already", hint="give a later time")
    texts = (*limits.models, limits.rollout_id or "", limits.attempt_id or "")
    if any(scrubbed(text) != text for text in texts) or any(not model for model in limits.models):
        raise BadInput("The limits hold a name that nothing can have", hint="use text without NUL")


def _as_text(limits: KeyLimits) -> str | None:
    return None if limits == UNLIMITED else limits.model_dump_json(exclude_defaults=True)


def find(tx: Tx, secret: str) -> KeyRow | None:
    """The key that this secret is, unless it was revoked."""
    row = tx.first(sa.select(t).where(t.c.hash == hashed(secret), t.c.revoke_time.is_(None)))
    return _row(row) if row is not None else None


def query(tx: Tx, *, project: str | None = None) -> list[KeyRow]:
    """All keys of a project, or of every project, oldest first."""
    where = [t.c.project == project] if project is not None else []
    return [_row(row) for row in tx.all(sa.select(t).where(*where).order_by(t.c.create_time, t.c.id))]


def revoke(tx: Tx, key_id: str, *, now: float, project: str | None = None) -> KeyRow:
    """Refuse a key from now on. Raises NotFound."""
    where = [t.c.id == key_id, *([t.c.project == project] if project is not None else [])]
    tx.run(sa.update(t).where(*where, t.c.revoke_time.is_(None)).values(revoke_time=now))
    row = tx.first(sa.select(t).where(*where))
    if row is None:
        raise NotFound(f"Key {key_id} not found", hint="`leyden keys list` shows them")
    tx.notices.add(CHANGED)
    return _row(row)


def exist(tx: Tx) -> bool:
    """Whether any key could be used."""
    return tx.first(sa.select(sa.literal(1)).where(t.c.revoke_time.is_(None)).limit(1)) is not None


def hashed(secret: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _row(row: sa.Row[tuple[object, ...]]) -> KeyRow:
    limits = KeyLimits.model_validate_json(row.limits) if row.limits else UNLIMITED
    return KeyRow(
        row.id, row.project, row.name, tuple(row.scopes.split()), row.create_time, row.revoke_time, limits
    )
