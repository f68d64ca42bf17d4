"""Whether a failed call is asked again, where and when. Pure: chance and time are passed in. Refuses to know: sockets."""

import random
import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from leyden.gateway.config import Retry


class Failure(NamedTuple):
    """Why a try did not do, before the client saw a byte of it.

    kind: "status", an answer that asks for another try; "dropped", a connection that closed without a word, mostly a kept-alive one that
    its server had given up; "connect" and "timeout"; "broken", an answer that began and stopped or was no HTTP.
    """

    kind: Literal["status", "dropped", "connect", "timeout", "broken"]
    retry_after_s: float | None = None


class Step(NamedTuple):
    """What to do now: ask the same target again after a pause, ask the next one at once, or stop."""

    action: Literal["again", "next", "stop"]
    pause_s: float = 0.0


NEXT = Step("next")
STOP = Step("stop")


def next_step(
    rules: Retry,
    failure: Failure,
    *,
    tries_here: int,
    has_next: bool,
    elapsed_s: float,
    rng: random.Random,
) -> Step:
    """tries_here: at this target so far. elapsed_s: since the first try of the call.

    A target that cannot be reached, that is silent, or that names a time to come back is left for the next one at once.
    """
    if failure.kind == "dropped" and tries_here == 1:
        return Step("again")
    left_s = rules.budget_s - elapsed_s
    if left_s < 0:
        return STOP
    if (
        tries_here >= rules.tries
        or failure.kind in ("connect", "timeout")
        or failure.retry_after_s is not None
    ):
        if has_next:
            return NEXT
        if tries_here >= rules.tries:
            return STOP
    pause_s = backoff_s(rules, tries_here, rng) if failure.retry_after_s is None else failure.retry_after_s
    if pause_s > left_s:
        return NEXT if has_next else STOP
    return Step("again", pause_s)


def backoff_s(rules: Retry, tries_here: int, rng: random.Random) -> float:
    """The pause after that many tries: doubling up to `max_s`, of which between half and all is waited."""
    return min(rules.max_s, rules.base_s * 2.0 ** (tries_here - 1)) * (0.5 + rng.random() / 2)


def asks_for_another_try(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an answer is a failure that may pass: 408, 409, 429, 500 and above, unless it says itself (`x-should-retry`)."""
    if status < 400:
        return False
    for name, value in headers:
        if name == b"x-should-retry" and value in (b"true", b"false"):
            return value == b"true"
    return status in (408, 409, 429) or status >= 500


def retry_after_s(headers: Iterable[tuple[bytes, bytes]], *, now: float) -> float | None:
    """When an answer says to come back: seconds from now, from `retry-after-ms` or `Retry-After` (seconds or a date); None when it does not.

    now: unix seconds.
    """
    found = {
        name: value.decode("latin-1").strip() for name, value in headers if name.startswith(b"retry-after")
    }
    if _is_number(milliseconds := found.get(b"retry-after-ms", "")):
        return float(milliseconds) / 1000
    seconds = found.get(b"retry-after", "")
    if _is_number(seconds):
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(seconds).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", text) is not None
