"""Numbers and times as people write them in a filter: `0.01`, `$2`, `1k`, `500ms`, `7d`, `2026-11-01T12:00`.

Pure; every function raises ValueError with the advice to give. Exact: decimals never pass through a float.
"""

import re
from datetime import datetime
from decimal import Decimal
from typing import Literal

Unit = Literal["number", "count", "money", "seconds"]

_LIMIT = 2**63
_NUMBER = re.compile(r"(-?)(\$?)(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})([A-Za-zµ]{0,2})(\$?)")
_SECONDS = {
    "us": Decimal("0.000001"),
    "µs": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
    "w": Decimal(7 * 86_400),
}
_TIMES = {"": Decimal(1), "k": Decimal(1000), "K": Decimal(1000), "M": Decimal(1_000_000)}
ADVICE = {
    "number": "write a number: 0.5, 12, 3k",
    "count": "write a number: 12, 3k, 1.5M",
    "money": "write dollars: 0.01, $2",
    "seconds": "write a duration: 500ms, 2s, 5m, 1h",
}
TIME_ADVICE = "write 30m, 12h, 7d or 2w before now, 2026-03-14, 2026-03-14T09:30, or unix seconds"


def number(text: str, unit: Unit, *, per: int = 1) -> int | float:
    """A quantity times `per`; whole ones as int. A duration without a unit is in seconds. Raises ValueError."""
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ValueError(ADVICE[unit])
    sign, before, digits, suffix, after = match.groups()
    sizes = {"": Decimal(1), **_SECONDS} if unit == "seconds" else _TIMES
    if suffix not in sizes or ((before or after) and unit != "money"):
        raise ValueError(ADVICE[unit])
    return _fitting((-1 if sign else 1) * Decimal(digits) * sizes[suffix] * per)


def _fitting(value: Decimal) -> int | float:
    if abs(value) >= _LIMIT:
        raise ValueError("that is more than a number here can be")
    return int(value) if value == value.to_integral_value() else float(value)


def time_ns(text: str, *, now: float) -> int:
    """A point in time in unix nanoseconds: so long before `now` (unix seconds), a date or date and time, or unix seconds.

    One that names no zone is in the zone of this machine. Raises ValueError.
    """
    back = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", text)
    if back:
        return _bounded(Decimal(now) - Decimal(back[1]) * _SECONDS[back[2]])
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
        return _bounded(Decimal(text))
    try:
        given = datetime.fromisoformat(text).astimezone()
        seconds, rest = divmod(given.timestamp(), 1)
    except (ValueError, OverflowError, OSError):
        raise ValueError(TIME_ADVICE) from None
    return _bounded(Decimal(int(seconds)) + Decimal(given.microsecond if rest else 0) / 1_000_000)


def _bounded(seconds: Decimal) -> int:
    found = int(seconds * 1_000_000_000)
    if abs(found) >= _LIMIT:
        raise ValueError(TIME_ADVICE)
    return found
