"""What a model is told about the tools of the front desk, and the check of its arguments against that.

One description is wrong on purpose: it is the fault that the demo is there to find.
"""

from collections.abc import Mapping
from typing import Any

from leyden.demo.world import EQUIPMENT

Json = dict[str, Any]


class ToolError(Exception):
    """A tool refused a call; the message says what was wrong and is what the model gets to read."""


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

PARAMETERS: dict[str, Json] = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
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


def validate(name: str, arguments: Mapping[str, Any]) -> None:
    known = PARAMETERS[name]["properties"]
    for argument in PARAMETERS[name]["required"]:
        if argument not in arguments:
            raise ToolError(f"{name} needs {argument!r}; it takes {', '.join(known)}")
    for argument, value in arguments.items():
        if argument not in known:
            raise ToolError(f"{name} has no argument {argument!r}; it takes {', '.join(known)}")
        kind = known[argument]["type"]
        # bool is an int in Python, never in JSON.
        if not isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, bool)):
            raise ToolError(f"{argument!r} of {name} must be of type {kind}")
