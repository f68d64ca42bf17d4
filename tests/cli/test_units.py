"""Numbers and times as people write them."""

import pytest

from leyden.cli.units import ago, count, duration, short_ids, since
from leyden.errors import BadInput

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (-1e-7, "0 ms"),
        (-2, "−2.0 s"),
        (0.0012, "1.2 ms"),
        (0.85, "850 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1m 00s"),
        (245, "4m 05s"),
        (3599.7, "1h 00m"),
        (12_000, "3h 20m"),
        (190_000, "2d 4h"),
    ],
)
def test_a_duration_is_short_and_never_rounds_into_sixty_of_a_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, ""), (0, "0"), (9_999, "9999"), (10_000, "10.0k"), (12_345, "12.3k"), (4_500_000, "4.5M"), (7 * 10**9, "7.0G")],
)  # fmt: skip
def test_a_count_takes_at_most_six_characters(number: int | None, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize("number", [999_949, 999_999, 1_000_000, 999_999_999])
def test_a_count_just_below_a_unit_reads_as_that_unit(number: int) -> None:
    assert float(count(number)[:-1]) < 1000


def test_an_age_names_one_unit_and_old_times_their_date() -> None:
    assert [ago(NOW - s, now=NOW) for s in (3, 90, 7_300, 200_000)] == [
        "3s ago",
        "1m ago",
        "2h ago",
        "2d ago",
    ]
    assert ago(NOW + 5, now=NOW) == "0s ago"
    assert ago(1e9, now=NOW) == "2001-09-09"


@pytest.mark.parametrize(("text", "back"), [("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("2W", 1_209_600), ("1.5 h", 5400)])  # fmt: skip
def test_since_counts_back_from_now(text: str, back: float) -> None:
    assert since(text, now=NOW) == NOW - back


def test_since_takes_a_time_with_its_zone() -> None:
    assert since("2026-03-14T00:00:00+00:00", now=NOW) == 1_773_446_400


@pytest.mark.parametrize("text", ["", "yesterday", "7", "-3d", "7 parsecs", "2026-13-01"])
def test_since_refuses_what_is_no_time_and_says_what_is(text: str) -> None:
    with pytest.raises(BadInput, match="is not a time") as refused:
        since(text, now=NOW)
    assert "7d" in (refused.value.hint or "")


def test_short_ids_are_the_shortest_common_length_that_tells_them_apart() -> None:
    assert short_ids(["ro-aaaa1", "ro-aaab2"], at_least=4) == {"ro-aaaa1": "ro-aaaa", "ro-aaab2": "ro-aaab"}
    assert short_ids(["ro-a", "ro-ab"], at_least=4) == {"ro-a": "ro-a", "ro-ab": "ro-ab"}
    assert short_ids([], at_least=4) == {}
