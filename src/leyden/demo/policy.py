"""The mind of the scripted model: it books rooms and does as its prompt says, mostly.

It sees only what a real model would see: the system prompt, the tool descriptions, the conversation. A house rule that the
prompt states is followed with probability 0.985 (less in a prompt over 600 tokens), one it does not state with 0.15. Chance
is a hash of prompt, request, rule and `seed`, so the same conversation always goes the same way, and a new prompt draws anew.

It proves plumbing, selection and statistics, never that a prompt helps a real model: rules are recognised by keywords,
so it cannot tell "leave a gap" from "never leave a gap".
"""

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, cast

Json = dict[str, Any]

# ── How closely a prompt is followed ─────────────────────────────────────────────────────────────────────────────

# What tells the model that a prompt states a rule.
_STATED: dict[str, re.Pattern[str]] = {
    rule: re.compile(pattern, re.IGNORECASE)
    for rule, pattern in {
        "capacity": r"seats? (for )?every|seats? enough|big enough|capacity",
        "hours": r"opening hours|\bopens\b|\bcloses\b|closing time",
        "equipment": r"equipment",
        "access": r"wheelchair|step[- ]free|accessib",
        "buffer": r"15 minutes|quarter of an hour|\bbuffer\b|\bgap\b",
        "visitors": r"(visitor|guest|outside)[^.\n]*ground floor|ground floor[^.\n]*(visitor|guest|outside)",
        "directors": r"directors?(_only)?\b",
        "private": r"frosted|(interview|personnel|confidential|private)[^.\n]*room",
        "smallest": r"smallest|no larger than",
        "floor": r"own floor|same floor|home floor|organiser's floor",
        "waitlist": r"waiting list|waitlist",
        "confirm": r"confirm",
        "search_once": r"search(_rooms)? (only )?once|(do not|don't|never) (repeat|search)[^.\n]*(search|again|twice)",
    }.items()
}
# Wherever these words stand together, check_calendar's date is taken to be an ISO date.
_ISO_IN_PROMPT = re.compile(r"(date|calendar)[^.\n]*(YYYY-MM-DD|ISO)|(YYYY-MM-DD|ISO)[^.\n]*(date|calendar)")
_ISO_IN_SCHEMA = re.compile(r"YYYY-MM-DD|ISO")

_TOKENS_BEFORE_FATIGUE, _FATIGUE_PER_TOKEN = 600, 0.0002


class Fidelity(NamedTuple):
    """How likely the model follows a rule, from 0 to 1: one that its prompt states, and one that it does not.

    Counting chairs and not searching twice are common sense: unstated, they are followed five times as often as others.
    """

    stated: float = 0.985
    unstated: float = 0.15


USUAL = Fidelity()


def follow_probability(rule: str, prompt: str, *, fidelity: Fidelity = USUAL) -> float:
    """How likely the model follows `rule` under `prompt`."""
    if rule in _stated(prompt):
        return max(fidelity.unstated, fidelity.stated - _fatigue(prompt))
    common_sense = 5 if rule in ("capacity", "search_once") else 1
    return min(1.0, fidelity.unstated * common_sense)


@lru_cache(maxsize=256)
def _stated(prompt: str) -> frozenset[str]:
    return frozenset(rule for rule, words in _STATED.items() if words.search(prompt))


def _fatigue(prompt: str) -> float:
    return max(0, tokens(prompt) - _TOKENS_BEFORE_FATIGUE) * _FATIGUE_PER_TOKEN


def tokens(text: str) -> int:
    """The length of a text in tokens, at four characters each."""
    return -(-len(text) // 4)


# ── What the model understands of a conversation ─────────────────────────────────────────────────────────────────


class Wish(NamedTuple):
    """A request as the model reads it. `spoken` is the date in the words of the request, `date` in ISO form."""

    spoken: str
    date: str
    start: str
    end: str
    people: int
    visitors: int
    equipment: list[str]
    wheelchair: bool
    private: bool
    director: bool
    floor: int
    email: str


class Step(NamedTuple):
    """One tool call of the conversation with its answer; `error` is "" when it worked."""

    tool: str
    arguments: Json
    result: Json
    error: str


class Call(NamedTuple):
    """A tool call the model wants to make."""

    tool: str
    arguments: Json


Reply = str | list[Call]


def read_wish(text: str) -> Wish | None:
    """The wish in a request, or None when it names no day, time, number of people or e-mail address."""
    day = re.search(r"\b(\d{1,2} [A-Z][a-z]+ \d{4})\b", text)
    time = re.search(r"from (\d\d:\d\d) to (\d\d:\d\d)", text)
    staff = re.search(r"(\d+) of us", text)
    email = re.search(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", text)
    if not (day and time and staff and email):
        return None
    try:
        date = datetime.strptime(day[1], "%d %B %Y").date().isoformat()
    except ValueError:
        return None
    visitors, floor = re.search(r"(\d+) visitors?", text), re.search(r"floor (\d+)", text)
    guests = int(visitors[1]) if visitors else 0
    return Wish(
        spoken=day[1],
        date=date,
        start=time[1],
        end=time[2],
        people=int(staff[1]) + guests,
        visitors=guests,
        equipment=[thing for thing in ("screen", "whiteboard", "video", "phone") if thing in text],
        wheelchair="wheelchair" in text,
        private=bool(re.search(r"interview|personnel", text)),
        director="director" in text,
        floor=int(floor[1]) if floor else 0,
        email=email[0],
    )  # fmt: skip


def read_steps(messages: list[Json]) -> list[Step]:
    """The tool calls of a conversation that have an answer, in order."""
    answers = {m.get("tool_call_id"): _loads(m.get("content")) for m in messages if m.get("role") == "tool"}
    steps: list[Step] = []
    for message in messages:
        for call in cast(list[Json], message.get("tool_calls") or []):
            if call["id"] not in answers:
                continue
            result, function = answers[call["id"]], call["function"]
            error = str(result.get("error", ""))
            steps.append(Step(function["name"], _loads(function["arguments"]), result, error))
    return steps


def _loads(text: object) -> Json:
    try:
        value: object = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        value = None
    return cast(Json, value) if isinstance(value, dict) else {"error": f"unreadable: {text}"}


# ── The policy ───────────────────────────────────────────────────────────────────────────────────────────────────


class Mind(NamedTuple):
    """What decides how one request is handled: the rules that are followed, and a source of chance."""

    follows: frozenset[str]
    calendar_iso: bool
    draw: Callable[[str], float]


def mind_of(prompt: str, request: str, tools: list[Json], *, seed: int, fidelity: Fidelity) -> Mind:
    """The mind that a prompt and the tool descriptions give for one request; another `seed` draws anew."""
    words = " ".join(prompt.split())

    def draw(about: str) -> float:
        return int.from_bytes(sha256(f"{words}\0{request}\0{about}\0{seed}".encode()).digest()[:8]) / 2**64

    follows = {rule for rule in _STATED if draw(rule) < follow_probability(rule, prompt, fidelity=fidelity)}
    said = _ISO_IN_PROMPT.search(prompt) is not None and draw("calendar date") < fidelity.stated - _fatigue(
        prompt
    )
    return Mind(frozenset(follows), said or _schema_wants_iso(tools), draw)


def _schema_wants_iso(tools: list[Json]) -> bool:
    for tool in tools:
        if tool["function"]["name"] == "check_calendar":
            return _ISO_IN_SCHEMA.search(json.dumps(tool["function"])) is not None
    return False


# An error is misread this often before the calendar is given up; then the model resigns, or books blindly.
_CALENDAR_TRIES, _LEARNS_FROM_ERROR, _RESIGNS, _REPEATS_SEARCH = 3, 0.1, 0.12, 0.5
_REFUSALS_BEFORE_GIVING_UP = 4


def next_reply(wish: Wish, steps: list[Step], mind: Mind) -> Reply:
    """What the model does next: tool calls, or a sentence that ends the conversation."""
    done = [step for step in steps if not step.error]
    reference = next((r for step in reversed(done) if (r := _reference(step))), None)
    if reference:
        return _confirm_or_end(wish, done, reference, mind)
    searches = [step for step in done if step.tool == "search_rooms"]
    if not searches:
        return [Call("search_rooms", _filters(wish, mind))]
    checks = [step for step in steps if step.tool == "check_calendar"]
    if checks and checks[-1].error and _wastes_a_search(steps, mind):
        return [Call("search_rooms", searches[-1].arguments)]
    refused = [step for step in steps if step.tool == "book_room" and step.error]
    rooms = _candidates(wish, cast(list[Json], searches[-1].result["rooms"]), refused, mind)
    if len(refused) >= _REFUSALS_BEFORE_GIVING_UP:
        rooms = []
    free = [room for room in rooms if _looks_free(room, wish, done, mind) is not False]
    if free:
        return _check_or_book(wish, free[0], checks, mind)
    if "waitlist" in mind.follows:
        return [Call("join_waitlist", {"date": wish.date, **_time(wish), "people": wish.people})]
    # Told nothing of a waiting list, it drops its filters and takes what it can get.
    if searches[-1].arguments and len(refused) < _REFUSALS_BEFORE_GIVING_UP:
        return [Call("search_rooms", {})]
    return "I am sorry, I could not find a room for you."


def _reference(step: Step) -> str | None:
    return step.result.get("booking_id") or step.result.get("waitlist_id")


def _confirm_or_end(wish: Wish, done: list[Step], reference: str, mind: Mind) -> Reply:
    sent = any(step.tool == "send_confirmation" for step in done)
    waiting = reference.startswith("wl")
    news = "No room was free; you are on the waiting list." if waiting else "Your room is booked."
    if sent or "confirm" not in mind.follows:
        return f"{news} Reference: {reference}."
    text = f"{news} {wish.spoken}, {wish.start} to {wish.end}."
    return [Call("send_confirmation", {"to": wish.email, "reference": reference, "text": text})]


def _filters(wish: Wish, mind: Mind) -> Json:
    filters: Json = {}
    if "capacity" in mind.follows:
        filters["min_capacity"] = wish.people
    if "equipment" in mind.follows and wish.equipment:
        filters["equipment"] = wish.equipment
    if "access" in mind.follows and wish.wheelchair:
        filters["step_free"] = True
    if "visitors" in mind.follows and wish.visitors:
        filters["floor"] = 0
    return filters


def _candidates(wish: Wish, rooms: list[Json], refused: list[Step], mind: Mind) -> list[Json]:
    """The rooms the model would take, in its order, without those it was refused.

    After a refusal for size it counts chairs.
    """
    tried = {step.arguments["room_id"] for step in refused}
    counts = "capacity" in mind.follows or any("seats" in step.error for step in refused)
    fit = [
        room
        for room in rooms
        if room["room_id"] not in tried
        and not (counts and room["capacity"] < wish.people)
        and not ("hours" in mind.follows and (wish.start < room["opens"] or wish.end > room["closes"]))
        and not ("directors" in mind.follows and room["directors_only"] and not wish.director)
        and not ("private" in mind.follows and wish.private and not room["frosted"])
    ]
    if "floor" in mind.follows:
        fit.sort(key=lambda room: room["floor"] != wish.floor)
    if "smallest" in mind.follows:
        fit.sort(key=lambda room: room["capacity"])
    return fit


def _looks_free(room: Json, wish: Wish, done: list[Step], mind: Mind) -> bool | None:
    """Whether the calendar the model has seen leaves the room free; None when it has not seen it."""
    gap = 15 if "buffer" in mind.follows else 0
    for step in done:
        if step.tool == "check_calendar" and step.arguments.get("room_id") == room["room_id"]:
            return not any(
                _minutes(slot["start"]) - gap < _minutes(wish.end) and _minutes(wish.start) - gap < _minutes(slot["end"])
                for slot in cast(list[Json], step.result["booked"])
            )  # fmt: skip
    return None


def _check_or_book(wish: Wish, room: Json, checks: list[Step], mind: Mind) -> Reply:
    worked = [step for step in checks if not step.error]
    seen = any(step.arguments.get("room_id") == room["room_id"] for step in worked)
    failures = len(checks) - len(worked)
    blind = not worked and failures >= _CALENDAR_TRIES
    if blind and mind.draw("resigns") < _RESIGNS:
        return "I am sorry, I cannot read the calendars, so I did not book anything."
    if seen or blind:
        book = {
            "room_id": room["room_id"],
            "date": wish.date,
            **_time(wish),
            "people": wish.people,
            "title": "Meeting",
        }
        return [Call("book_room", book)]
    learned = bool(worked) or any(
        mind.draw(f"learns {n}") < _LEARNS_FROM_ERROR for n in range(1, failures + 1)
    )
    date = wish.date if mind.calendar_iso or learned else wish.spoken
    return [Call("check_calendar", {"room_id": room["room_id"], "date": date})]


def _wastes_a_search(steps: list[Step], mind: Mind) -> bool:
    """Whether a model that is stuck searches once more for what it knows already."""
    once = sum(step.tool == "search_rooms" for step in steps) == 1
    return once and "search_once" not in mind.follows and mind.draw("repeats search") < _REPEATS_SEARCH


def _time(wish: Wish) -> Json:
    return {"start": wish.start, "end": wish.end}


def _minutes(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])
