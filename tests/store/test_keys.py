"""What a key may use is kept with it and comes back as it was."""

from typing import Any

import pytest

from leyden.errors import BadInput
from leyden.store import keys
from leyden.store.keys import KeyRow
from leyden.store.opening import Store
from leyden.types import KeyLimits

NOW = 1_800_000_000.0


def make(store: Store, **limits: Any) -> tuple[KeyRow, str]:
    return store.writer.run(
        lambda tx: keys.create(
            tx, project="default", name="me", scopes=["gateway"], now=NOW, limits=KeyLimits(**limits)
        )
    )


def test_limits_come_back_as_they_were_given(store: Store) -> None:
    limits = {
        "models": ("gpt-4o*",), "requests_per_minute": 60, "tokens_per_minute": 100_000, "usd_per_day": 5.0, "usd_per_rollout": 0.5,
        "concurrency": 4, "expire_time": NOW + 60, "rollout_id": "ro-1", "attempt_id": "at-1",
    }  # fmt: skip
    row, secret = make(store, **limits)
    plain, _ = make(store)
    with store.database.read() as tx:
        assert keys.find(tx, secret) == row
        assert keys.query(tx) == sorted([row, plain], key=lambda each: each.id)
    assert row.limits == KeyLimits(**limits)
    assert (row.is_expired(NOW), row.is_expired(NOW + 60)) == (False, True)
    assert plain.limits == keys.UNLIMITED


@pytest.mark.parametrize(
    "limits", [{"attempt_id": "at-1"}, {"expire_time": NOW}, {"models": ("a\0b",)}, {"models": ("",)}]
)  # fmt: skip
def test_limits_that_nothing_can_meet_are_refused(store: Store, limits: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        make(store, **limits)
    with store.database.read() as tx:
        assert keys.query(tx) == []
