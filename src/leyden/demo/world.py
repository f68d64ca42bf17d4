"""The world of the demo: an office, its rooms, and requests for rooms with the truth behind them.

Owns: the rooms and a seeded generator of tasks: the same seed gives the same tasks. `desk` is where a task is worked on,
`rules` says how well. Refuses to know: models, prompts, tracing, HTTP.

Times are "HH:MM" strings, which compare in the order of time; dates are "YYYY-MM-DD".
"""

import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

OFFICE = "Franklin House"

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
