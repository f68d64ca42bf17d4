"""What the agents of this folder can do: two tools of a small shop, as plain functions."""

from typing import Any

QUESTION = "When does order 7 arrive?"


def look_up_order(order_id: int) -> dict[str, Any]:
    """Where an order goes and when it left."""
    return {"order_id": order_id, "city": "Leiden", "left": "Monday"}


def days_to(city: str) -> int:
    """How many days a parcel takes to a city."""
    return {"Leiden": 2, "Delft": 1}.get(city, 5)


TOOLS = {"look_up_order": look_up_order, "days_to": days_to}
SCHEMAS: dict[str, dict[str, Any]] = {
    "look_up_order": {
        "type": "object",
        "properties": {"order_id": {"type": "integer"}},
        "required": ["order_id"],
    },
    "days_to": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
