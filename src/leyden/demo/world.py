"""The world of the demo: an office, its rooms, its house rules, requests for rooms, and the tools that act on them.

Owns: the rooms, the twelve rules, a seeded generator of tasks, the tools with their validation, and `check`, which scores
what was done from the final state alone. Everything is deterministic: the same seed gives the same tasks, the same
calls give the same reward. Refuses to know: models, prompts, tracing, HTTP.

Times are "HH:MM" strings, which compare in the order of time; dates are "YYYY-MM-DD".
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

OFFICE = "Franklin House"
BUFFER_MINUTES = 15

Json = dict[str, Any]


class ToolError(Exception):
    """A tool refused a call; the message says what was wrong and is what the model gets to read."""


# ── Rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Room(NamedTuple):
    """One meeting room. `floor` 0 is the ground floor; `frosted` means nobody can look in."""

    room_id: str
    capacity: int
    floor: int
    equipment: tuple[str, ...]
    step_free: bool
    frosted: bool = False
    directors_only: bool = False
    opens: str = "08:00"
    closes: str = "19:00"


ROOMS: dict[str, Room] = {
    room.room_id: room
    for room in (
        Room("alder", 4, 0, ("screen",), True, frosted=True),
        Room("aspen", 4, 1, ("whiteboard", "phone"), False, frosted=True),
        Room("birch", 4, 2, ("screen", "phone"), True),
        Room("cedar", 6, 0, ("screen", "whiteboard", "video"), True, opens="09:00", closes="17:00"),
        Room("elm", 6, 1, ("screen", "video"), True, frosted=True),
        Room("fir", 6, 2, ("screen", "whiteboard", "phone"), False),
        Room("hazel", 8, 0, ("screen", "video", "phone"), False, frosted=True),
        Room("juniper", 8, 1, ("screen", "whiteboard", "video"), True),
        Room("larch", 8, 2, ("screen", "video"), True, frosted=True, opens="10:00", closes="16:00"),
        Room("maple", 10, 3, ("screen", "video", "phone"), True, frosted=True, directors_only=True),
        Room("oak", 12, 0, ("screen", "whiteboard", "phone", "video"), True),
        Room("pine", 12, 2, ("screen", "whiteboard", "video"), True, frosted=True),
        Room("rowan", 16, 1, ("screen", "whiteboard", "video", "phone"), True, closes="17:00"),
        Room("willow", 24, 0, ("screen", "video", "phone", "whiteboard"), True, frosted=True),
    )
}
EQUIPMENT = ("screen", "whiteboard", "video", "phone")


# ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Slot(NamedTuple):
    """A stretch of one room's day."""

    room_id: str
    start: str
    end: str


@dataclass(frozen=True)
class Task:
    """One request: what the colleague wrote, and the truth behind it that only `check` sees."""

    task_id: str
    request: str
    organiser: str
    email: str
    home_floor: int
    staff: int
    visitors: int
    equipment: tuple[str, ...]
    wheelchair: bool
    private: bool
    director: bool
    date: str
    start: str
    end: str
    taken: tuple[Slot, ...]

    @property
    def people(self) -> int:
        """Everyone who needs a chair."""
        return self.staff + self.visitors


_NAMES = (
    "Amara Obi", "Ben Whitlock", "Carla Mendes", "Dmitri Volkov", "Esther Kim", "Farid Haddad", "Grace Liu", "Hugo Brandt",
    "Ines Costa", "Jonas Weber", "Keiko Mori", "Lena Fischer", "Mateo Ruiz", "Nadia Rahman", "Owen Clarke", "Priya Nair",
)  # fmt: skip
_TEAMS = ("Facilities", "Sales", "Finance", "Legal")
_OPENERS = (
    "Hello, {name} from {team} here, floor {floor}.",
    "{name}, {team}, floor {floor}.",
    "Good morning! This is {name} of {team} on floor {floor}.",
    "Hi front desk, {name} ({team}, floor {floor}).",
)
_TIMES = (
    "I need a room on {date} from {start} to {end}.",
    "Could you find us a room on {date}, from {start} to {end}?",
    "We would like to meet on {date} from {start} to {end}; please book a room.",
)
_SPOKEN_EQUIPMENT = {
    "screen": "a screen",
    "whiteboard": "a whiteboard",
    "video": "a video system",
    "phone": "a conference phone",
}
_PRIVATE = ("It is a job interview.", "It is a personnel talk, so please keep it private.")
_FIRST_DAY = date(2026, 5, 4)
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def tasks(count: int, *, seed: int = 0) -> list[Task]:
    """`count` tasks with different requests. A longer list begins with the shorter one of the same seed."""
    rng = random.Random(f"front-desk {seed}")
    made: dict[str, Task] = {}
    while len(made) < count:
        task = _task(rng, task_id=f"desk-{seed}-{len(made) + 1:03d}")
        made.setdefault(task.request, task)
    return list(made.values())


def _task(rng: random.Random, *, task_id: str) -> Task:
    name, floor, director = rng.choice(_NAMES), rng.randrange(4), rng.random() < 0.12
    staff = rng.choice((2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 8, 9, 11))
    visitors = rng.choice((1, 2, 3)) if rng.random() < 0.3 else 0
    equipment = tuple(sorted(rng.sample(EQUIPMENT, rng.choice((0, 1, 1, 2)))))
    wheelchair, private = rng.random() < 0.2, rng.random() < 0.2
    day = _FIRST_DAY + timedelta(days=7 * rng.randrange(40) + rng.randrange(5))
    begin = rng.randrange(16, 34) * 30
    start, end = clock(begin), clock(begin + rng.choice((30, 60, 60, 90, 120)))
    email = name.lower().replace(" ", ".") + "@franklin.example"
    wishes = [f"There will be {staff} of us" + (f" and {_count(visitors, 'visitor')}." if visitors else ".")]
    if equipment:
        wishes.append(f"We need {' and '.join(_SPOKEN_EQUIPMENT[thing] for thing in equipment)}.")
    if wheelchair:
        wishes.append("One of us uses a wheelchair.")
    if private:
        wishes.append(rng.choice(_PRIVATE))
    if director:
        wishes.append("I am one of the directors.")
    rng.shuffle(wishes)
    opener = rng.choice(_OPENERS).format(name=name, team=_TEAMS[floor], floor=floor)
    when = rng.choice(_TIMES).format(date=spoken(day), start=start, end=end)
    return Task(
        task_id=task_id,
        request=" ".join([opener, when, *wishes, f"Please write to {email}."]),
        organiser=name,
        email=email,
        home_floor=floor,
        staff=staff,
        visitors=visitors,
        equipment=equipment,
        wheelchair=wheelchair,
        private=private,
        director=director,
        date=day.isoformat(),
        start=start,
        end=end,
        taken=tuple(slot for room in ROOMS.values() for slot in _day(rng, room)),
    )


def _day(rng: random.Random, room: Room) -> list[Slot]:
    """What is already booked in a room: stretches of 30 to 90 minutes with gaps of two to six hours."""
    slots: list[Slot] = []
    at = minutes(room.opens) + rng.choice((0, 60, 120, 180, 240))
    while at < minutes(room.closes) - 30:
        end = min(at + rng.choice((30, 60, 90)), minutes(room.closes))
        slots.append(Slot(room.room_id, clock(at), clock(end)))
        at = end + rng.choice((120, 180, 240, 300, 360))
    return slots


def spoken(day: date) -> str:
    """A date the way people here write it: 4 May 2026."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def minutes(time: str) -> int:
    """Minutes since midnight."""
    return int(time[:2]) * 60 + int(time[3:])


def clock(minutes_since_midnight: int) -> str:
    """The reverse of `minutes`."""
    return f"{minutes_since_midnight // 60:02d}:{minutes_since_midnight % 60:02d}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ── House rules ──────────────────────────────────────────────────────────────────────────────────────────────────

# The sentence a prompt would use for each rule. `check` enforces them; the tools enforce only `capacity` and `hours`.
RULES: dict[str, str] = {
    "capacity": "The room seats everyone who comes: count staff and visitors.",
    "hours": "The whole meeting lies within the opening hours of the room.",
    "equipment": "The room has every piece of equipment that was asked for.",
    "access": "If somebody uses a wheelchair, the room is step-free.",
    "buffer": "Leave 15 minutes free before and after every other booking in the room.",
    "visitors": "Meetings with visitors from outside are on the ground floor.",
    "directors": "Rooms marked directors_only are for directors alone.",
    "private": "Interviews and personnel talks go to a room with frosted glass.",
    "smallest": "Of the rooms that will do, take the smallest.",
    "floor": "Of equally small rooms, take one on the organiser's own floor.",
    "waitlist": "When no room will do, book nothing and put the organiser on the waiting list.",
    "confirm": "Send the organiser one confirmation of what was arranged.",
}

# What a room, taken for a task, must not do. `buffer` includes that the room is free at all.
_BREAKS: dict[str, Callable[[Task, Room], bool]] = {
    "capacity": lambda task, room: room.capacity < task.people,
    "hours": lambda task, room: task.start < room.opens or task.end > room.closes,
    "equipment": lambda task, room: not set(task.equipment) <= set(room.equipment),
    "access": lambda task, room: task.wheelchair and not room.step_free,
    "buffer": lambda task, room: any(_too_close(slot, task) for slot in task.taken if slot.room_id == room.room_id),
    "visitors": lambda task, room: task.visitors > 0 and room.floor != 0,
    "directors": lambda task, room: room.directors_only and not task.director,
    "private": lambda task, room: task.private and not room.frosted,
}  # fmt: skip


def _too_close(slot: Slot, task: Task) -> bool:
    gap = BUFFER_MINUTES
    return minutes(slot.start) - gap < minutes(task.end) and minutes(task.start) - gap < minutes(slot.end)


def rooms_that_will_do(task: Task) -> list[Room]:
    """Every room that breaks no rule for the task, best first: the smallest, then those on the organiser's floor."""
    fit = [room for room in ROOMS.values() if not any(breaks(task, room) for breaks in _BREAKS.values())]
    return sorted(fit, key=lambda room: (room.capacity, room.floor != task.home_floor))


class Verdict(NamedTuple):
    """How well a request was handled: `reward` from 0 to 1, and the names of the rules that were broken."""

    reward: float
    broken: tuple[str, ...]


def check(desk: "Desk") -> Verdict:
    """Score the state a desk was left in.

    A right booking earns 0.6, the smallest possible room 0.15, the right floor 0.05, one confirmation to the organiser 0.2;
    a right place on the waiting list earns 0.8 in place of the first three. Each rule broken by the room leaves 0.4 of
    the 0.6 and forfeits size and floor. Every refused booking costs 0.05, at most 0.15. Nothing done, or anything booked
    twice, at another time or where nothing would do, earns 0.
    """
    task, fit = desk.task, rooms_that_will_do(desk.task)
    confirmed = [to for to, _ in desk.confirmations] == [task.email]
    unconfirmed = () if confirmed else ("confirm",)
    earned = (0.2 if confirmed else 0.0) - min(0.15, 0.05 * desk.refused)
    if not fit:
        right = not desk.booked and len(desk.waiting) == 1
        return _verdict(0.8 + earned, unconfirmed) if right else Verdict(0.0, ("waitlist", *unconfirmed))
    if len(desk.booked) != 1 or (desk.booked[0].date, *desk.booked[0].slot[1:]) != (
        task.date,
        task.start,
        task.end,
    ):
        return Verdict(0.0, ("request", *unconfirmed))
    room, best = ROOMS[desk.booked[0].slot.room_id], fit[0]
    bad = tuple(rule for rule, breaks in _BREAKS.items() if breaks(task, room))
    if bad:
        return _verdict(0.6 * 0.4 ** len(bad) + earned, (*bad, *unconfirmed))
    if room.capacity > best.capacity:
        return _verdict(0.6 + earned, ("smallest", *unconfirmed))
    if room.floor != task.home_floor == best.floor:
        return _verdict(0.75 + earned, ("floor", *unconfirmed))
    return _verdict(0.8 + earned, unconfirmed)


def _verdict(reward: float, broken: tuple[str, ...]) -> Verdict:
    return Verdict(round(max(0.0, reward), 4), broken)


# ── The desk: state and tools ────────────────────────────────────────────────────────────────────────────────────


class Booking(NamedTuple):
    """A room taken by the agent."""

    booking_id: str
    date: str
    slot: Slot
    title: str


class Desk:
    """The front desk on the day of one task: what is booked, who waits, who was told. One desk serves one agent run."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.booked: list[Booking] = []
        self.waiting: list[str] = []
        self.confirmations: list[tuple[str, str]] = []
        self.refused = 0
        self._issued = 0

    def call(self, name: str, arguments: Mapping[str, Any]) -> Json:
        """What the named tool answers. Raises ToolError for an unknown tool, bad arguments, or a refusal."""
        if name not in _ARGUMENTS:
            raise ToolError(f"there is no tool {name!r}; the tools are {', '.join(_ARGUMENTS)}")
        _validate(name, arguments)
        return getattr(self, name)(**arguments)

    def search_rooms(
        self, min_capacity: int = 0, equipment: list[str] | None = None, floor: int | None = None, step_free: bool = False
    ) -> Json:  # fmt: skip
        wanted = set(equipment or ())
        if unknown := wanted - set(EQUIPMENT):
            raise ToolError(f"unknown equipment {sorted(unknown)[0]!r}; we have {', '.join(EQUIPMENT)}")
        found = [
            room
            for room in ROOMS.values()
            if room.capacity >= min_capacity and wanted <= set(room.equipment)
            if (floor is None or room.floor == floor) and (room.step_free or not step_free)
        ]
        return {"rooms": [room._asdict() for room in found]}

    def check_calendar(self, room_id: str, date: str) -> Json:
        room = _room(room_id)
        _require_date(date)
        taken = self._taken(room.room_id, date)
        return {"room_id": room_id, "date": date, "booked": [{"start": s.start, "end": s.end} for s in taken]}

    def book_room(self, room_id: str, date: str, start: str, end: str, people: int, title: str) -> Json:
        try:
            room = _room(room_id)
            self._require_bookable(room, date=date, start=start, end=end, people=people)
        except ToolError:
            self.refused += 1
            raise
        booking = Booking(self._next_id("bk"), date, Slot(room.room_id, start, end), title)
        self.booked.append(booking)
        return {
            "booking_id": booking.booking_id,
            "room_id": room_id,
            "date": date,
            "start": start,
            "end": end,
        }

    def cancel_booking(self, booking_id: str) -> Json:
        kept = [booking for booking in self.booked if booking.booking_id != booking_id]
        if len(kept) == len(self.booked):
            raise ToolError(f"no booking {booking_id!r}")
        self.booked = kept
        return {"cancelled": booking_id}

    def join_waitlist(self, date: str, start: str, end: str, people: int) -> Json:
        _require_date(date)
        _require_span(start, end)
        self.waiting.append(self._next_id("wl"))
        return {"waitlist_id": self.waiting[-1]}

    def send_confirmation(self, to: str, reference: str, text: str) -> Json:
        if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", to):
            raise ToolError(f"{to!r} is not an e-mail address")
        if reference not in {*self.waiting, *(booking.booking_id for booking in self.booked)}:
            raise ToolError(f"{reference!r} is neither a booking nor a place on the waiting list")
        self.confirmations.append((to, reference))
        return {"sent": True}

    def _taken(self, room_id: str, date: str) -> list[Slot]:
        before = (
            [slot for slot in self.task.taken if slot.room_id == room_id] if date == self.task.date else []
        )
        ours = [b.slot for b in self.booked if b.slot.room_id == room_id and b.date == date]
        return sorted([*before, *ours], key=lambda slot: slot.start)

    def _require_bookable(self, room: Room, *, date: str, start: str, end: str, people: int) -> None:
        _require_date(date)
        _require_span(start, end)
        if people > room.capacity:
            raise ToolError(f"over capacity: {room.room_id!r} seats {room.capacity}, {people} are coming")
        if start < room.opens or end > room.closes:
            raise ToolError(f"closed: {room.room_id!r} is open from {room.opens} to {room.closes}")
        for slot in self._taken(room.room_id, date):
            if slot.start < end and start < slot.end:
                raise ToolError(f"already booked: {room.room_id!r} is taken from {slot.start} to {slot.end}")

    def _next_id(self, prefix: str) -> str:
        self._issued += 1
        return f"{prefix}-{self._issued}"


def _room(room_id: str) -> Room:
    if room_id not in ROOMS:
        raise ToolError(f"there is no room {room_id!r}; search_rooms lists them")
    return ROOMS[room_id]


def _require_date(text: str) -> None:
    try:
        right = re.fullmatch(r"\d{4}-\d\d-\d\d", text) and date.fromisoformat(text)
    except ValueError:
        right = None
    if not right:
        raise ToolError(f"date must be YYYY-MM-DD, got {text!r}")


def _require_span(start: str, end: str) -> None:
    for text in (start, end):
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
            raise ToolError(f"time must be HH:MM, got {text!r}")
    if start >= end:
        raise ToolError(f"a meeting from {start!r} to {end!r} ends before it begins")


# ── What a model is told about the tools ─────────────────────────────────────────────────────────────────────────


def _tool(name: str, description: str, required: Json, optional: Json | None = None) -> Json:
    parameters = {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


def _whole(description: str) -> Json:
    return {"type": "integer", "description": description}


_DATE, _START, _END = _text("YYYY-MM-DD"), _text("HH:MM, 24 hours"), _text("HH:MM, 24 hours")
_ROOM_ID, _PEOPLE = _text("room_id as search_rooms gives it"), _whole("how many will attend")

# The description of check_calendar's date is wrong on purpose: the tool accepts YYYY-MM-DD alone. This is the fault the
# demo is there to find.
WRONG_DATE = "The day to look up, in the words of the request, e.g. 4 May 2026"

TOOLS: list[Json] = [
    _tool(
        "search_rooms",
        "List rooms with their facts. Without arguments: all rooms.",
        {},
        {
            "min_capacity": _whole("seats needed"),
            "equipment": {"type": "array", "items": {"type": "string", "enum": list(EQUIPMENT)}},
            "floor": _whole("0 is the ground floor"),
            "step_free": {"type": "boolean", "description": "only rooms without steps"},
        },
    ),
    _tool(
        "check_calendar",
        "What is booked in a room on one day.",
        {"room_id": _ROOM_ID, "date": _text(WRONG_DATE)},
    ),
    _tool(
        "book_room",
        "Book a room. Refused when it is taken, closed or too small.",
        {
            "room_id": _ROOM_ID,
            "date": _DATE,
            "start": _START,
            "end": _END,
            "people": _PEOPLE,
            "title": _text(""),
        },
    ),
    _tool("cancel_booking", "Undo a booking.", {"booking_id": _text("as book_room gave it")}),
    _tool(
        "join_waitlist",
        "Put the organiser on the waiting list for any room at that time.",
        {"date": _DATE, "start": _START, "end": _END, "people": _PEOPLE},
    ),
    _tool(
        "send_confirmation",
        "Write to the organiser.",
        {
            "to": _text("e-mail address"),
            "reference": _text("booking_id or waitlist_id"),
            "text": _text("one sentence"),
        },
    ),
]

_ARGUMENTS: dict[str, Json] = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool, "array": list}


def with_calendar_date(description: str) -> list[Json]:
    """The tools with another description of check_calendar's date: `"YYYY-MM-DD"` mends the fault."""
    tools = [tool for tool in TOOLS if tool["function"]["name"] != "check_calendar"]
    mended = _tool(
        "check_calendar",
        "What is booked in a room on one day.",
        {"room_id": _ROOM_ID, "date": _text(description)},
    )
    return [tools[0], mended, *tools[1:]]


def _validate(name: str, arguments: Mapping[str, Any]) -> None:
    known = _ARGUMENTS[name]["properties"]
    for argument in _ARGUMENTS[name]["required"]:
        if argument not in arguments:
            raise ToolError(f"{name} needs {argument!r}; it takes {', '.join(known)}")
    for argument, value in arguments.items():
        if argument not in known:
            raise ToolError(f"{name} has no argument {argument!r}; it takes {', '.join(known)}")
        kind = known[argument]["type"]
        # bool is an int in Python, never in JSON.
        if not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
            raise ToolError(f"{argument!r} of {name} must be of type {kind}")
