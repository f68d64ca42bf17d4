"""The house rules of the demo, and `check`, which scores what was done from the final state of a desk alone.

Deterministic: the same calls give the same reward. Refuses to know: models, prompts, tracing, HTTP.
"""

from collections.abc import Callable
from typing import NamedTuple

from leyden.demo.desk import Desk
from leyden.demo.world import ROOMS, Room, Slot, Task, minutes

BUFFER_MINUTES = 15

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


def check(desk: Desk) -> Verdict:
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
