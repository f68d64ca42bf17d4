"""The front desk on the day of one task: its state, and the tools that act on it.

Promises: the same calls give the same answers, and a refusal says what was wrong. Refuses to know: the house rules beyond
what a tool enforces, models, prompts, tracing, HTTP.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from leyden.demo.tools import PARAMETERS, Json, ToolError, validate
from leyden.demo.world import EQUIPMENT, ROOMS, Room, Slot, Task


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
        if name not in PARAMETERS:
            raise ToolError(f"there is no tool {name!r}; the tools are {', '.join(PARAMETERS)}")
        validate(name, arguments)
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
