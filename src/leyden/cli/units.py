"""Numbers as people write them: durations, ages, counts, money; and the other way round for `--since`."""

import re
from datetime import datetime
from typing import Any

from leyden.errors import BadInput
from leyden.types import Page

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def duration(seconds: float | None) -> str:
    """`850 ms`, `12.3 s`, `4m 05s`, `3h 20m`, `2d 4h`; nothing when it is unknown."""
    if seconds is None:
        return ""
    if seconds <= -0.00005:
        return f"−{duration(-seconds)}"
    if seconds < 0.9995:
        return (
            f"{abs(seconds) * 1000:.0f} ms"
            if seconds >= 0.0095 or seconds < 0.00005
            else f"{seconds * 1000:.1f} ms"
        )
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24}h"


def ago(time: float | None, *, now: float) -> str:
    """How long ago, in one unit: `12s ago`, `5m ago`, `3d ago`; the date when it is more than 60 days."""
    if time is None:
        return ""
    past = max(0.0, now - time)
    if past > 60 * 86_400:
        return day(time)
    unit = next(unit for unit in ("d", "h", "m", "s") if past >= _SECONDS[unit] or unit == "s")
    return f"{int(past // _SECONDS[unit])}{unit} ago"


def day(time: float) -> str:
    """The local date, `2026-03-14`."""
    return _local(time).strftime("%Y-%m-%d")


def moment(time: float | None) -> str:
    """The local date and time to the second."""
    return "" if time is None else _local(time).strftime("%Y-%m-%d %H:%M:%S")


def _local(time: float) -> datetime:
    try:
        return datetime.fromtimestamp(time).astimezone()
    except (OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(0).astimezone()


def count(number: int | None) -> str:
    """`812`, `9999`, `12.3k`, `4.5M`: at most six characters; nothing when it is unknown."""
    if number is None:
        return ""
    if number < 10_000:
        return str(number)
    for size, suffix in ((1000, "k"), (1_000_000, "M")):
        if number < size * 999.95:
            return f"{number / size:.1f}{suffix}"
    return f"{number / 1_000_000_000:.1f}G"


def money(usd: float) -> str:
    """`$1,204.50`, `$0.0042`, `$0.000031`; never 0 for what is not."""
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.0001 else f"${usd:.6f}" if usd >= 0.000001 else "under $0.000001"


def many(number: int, noun: str) -> str:
    """`1 run`, `1,234 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Bytes: `812 B`, `4.5 kB`, `12.3 MB`, `1.2 GB`; a thousand is a step."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} TB"


def size_of(text: str) -> int:
    """Bytes from `500MB`, `10 GB`, `1.5GiB` or a bare number. Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b)?", text.strip().lower())
    if not found:
        raise BadInput(f"{text!r} is not a size", hint="write 500MB, 10GB or a number of bytes")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " kmgt".index(found[2] or " "))


def seconds(text: str) -> float:
    """A span of time from `30m`, `12h`, `30d` or `8w`. Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if not found:
        raise BadInput(f"{text!r} is not a span of time", hint="write 30m, 12h, 30d or 8w")
    return float(found[1]) * _SECONDS[found[2]]


def of_total(page: Page[Any], noun: str) -> str:
    """How many there are: `1,234 spans`, or `over 1,000 spans` when they were not all counted."""
    return many(page.total, noun) if page.total_is_exact else f"over {many(page.total - 1, noun)}"


def since(text: str | None, *, now: float) -> float | None:
    """A point in time: `7d`, `12h`, `30m`, `2w` before now, or a date or date and time. Unix seconds. Raises BadInput."""
    if text is None:
        return None
    back = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if back:
        return now - float(back[1]) * _SECONDS[back[2]]
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadInput(
            f"{text!r} is not a time", hint="write 30m, 12h, 7d or 2w, or a date such as 2026-03-14"
        ) from None


def short_ids(ids: list[str], *, at_least: int) -> dict[str, str]:
    """Each id cut to one common length at which all of them still differ: enough to name one."""
    distinct = set(ids)
    longest = max(map(len, distinct), default=0)
    for length in range(at_least, longest):
        if len({name[:length] for name in distinct}) == len(distinct):
            return {name: name[:length] for name in distinct}
    return {name: name for name in distinct}
