"""`leyden costs` and the limits of `leyden keys` on the terminal and as JSON."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leyden.ingest.usage import Usage
from leyden.settings import Settings
from leyden.store import spend
from leyden.store.opening import open_store
from store.test_spend import make_call

Leyden = Callable[..., Any]


def spent(db: Path, **overrides: Any) -> None:
    store = open_store(Settings(db=str(db)))
    today = int(time.time() // 86_400)
    store.writer.run(lambda tx: spend.add(tx, [make_call(**{"day": today, **overrides})]))
    store.close()


def test_costs_show_a_line_per_group_and_say_what_is_unknown(leyden: Leyden, db: Path) -> None:
    spent(db, usage=Usage(1_200_000, 900, 20, 3, 40, 5), usd=12.5)
    spent(db, usd=None)
    spent(db, model="mine", usd=None)
    spent(db, model="small", usd=0.0004)
    head, *rows = leyden("costs").out.splitlines()
    assert head.split() == ["MODEL", "CALLS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "COST", "UNPRICED"]
    assert [row.split() for row in rows] == [
        ["gpt-4o", "2", "1.2M", "900", "50", "$12.50+", "1"],
        ["small", "1", "10", "5", "$0.0004"],
        ["mine", "1", "10", "5", "unknown", "1"],
        ["all", "4", "1.2M", "900", "60", "$12.50+", "2"],
    ]
    assert all(len(row) <= 80 for row in rows)
    assert leyden("costs", "--by", "key", "--json").json["total"]["unpriced_calls"] == 2


def test_costs_without_calls_say_so(leyden: Leyden, db: Path) -> None:
    assert leyden("keys", "create", "--name", "me").code == 0
    assert leyden("costs").out == "No calls through the gateway in these days.\n"


def test_prices_are_set_listed_and_deleted(leyden: Leyden) -> None:
    said = leyden(
        "costs", "prices", "set", "ollama/*", "--input", "0", "--cache-read", "0.5", "--call", "0.01"
    )
    assert said.out == "ollama/*: input 0, cache_read 0.5, call 0.01\n"
    head, row = leyden("costs", "prices", "list").out.splitlines()
    assert head.split()[0] == "PATTERN"
    assert row.startswith("ollama/*  input 0, cache_read 0.5, call 0.01")
    assert leyden("costs", "prices", "list", "--json").json[0]["pattern"] == "ollama/*"
    assert leyden("costs", "prices", "delete", "ollama/*").out == "Deleted the price of ollama/*.\n"
    assert leyden("costs", "prices", "list").out == "No prices of your own: calls are priced by the list.\n"
    refused = leyden("costs", "prices", "delete", "ollama/*")
    assert (refused.code, refused.err.splitlines()[0]) == (1, "Error: No price is set for 'ollama/*'")
    assert leyden("costs", "prices", "set", "m").err.startswith("Error: No price was given")
    assert "is -1.0, which is none" in leyden("costs", "prices", "set", "m", "--input", "-1").err


def test_a_key_is_made_with_limits_and_listed_with_them(leyden: Leyden) -> None:
    made = leyden(
        "keys", "create", "--name", "bot", "--scope", "gateway", "--model", "gpt-4o*", "--model", "o3", "--rpm", "60", "--tpm", "100000",
        "--usd-per-day", "5", "--usd-per-rollout", "0.5", "--concurrency", "4", "--expires", "12h", "--rollout", "ro-1", "--attempt", "at-1",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert made.out.startswith("lk_")
    (key,) = leyden("keys", "list", "--json").json
    expires = key["limits"].pop("expire_time")
    assert 0 < expires - time.time() <= 12 * 3600
    assert key["limits"] == {
        "models": ["gpt-4o*", "o3"], "requests_per_minute": 60, "tokens_per_minute": 100_000, "usd_per_day": 5.0,
        "usd_per_rollout": 0.5, "concurrency": 4, "rollout_id": "ro-1", "attempt_id": "at-1",
    }  # fmt: skip
    shown = leyden("keys", "list").out
    assert "gpt-4o*, o3, 60/min, 100.0k tokens/min, $5/day, $0.5/rollout, 4 at once" in shown


def test_a_key_that_cannot_be_is_refused_in_words(leyden: Leyden) -> None:
    for words in (
        ["--rpm", "99999999999"],
        ["--rollout", ""],
        ["--attempt", "at-1"],
        ["--expires", "soon"],
        ["--usd-per-day", "nan"],
    ):
        said = leyden("keys", "create", "--name", "x", *words)
        assert said.code != 0
        assert "defect" not in said.err
