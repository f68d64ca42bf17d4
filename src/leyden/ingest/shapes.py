"""Narrowing of plain values that came from outside."""

from typing import Any, TypeGuard


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a decoded value is an object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a decoded value is a list."""
    return isinstance(value, list)


def object_or_empty(value: Any) -> dict[str, Any]:
    """The object itself, {} for anything else."""
    return value if is_object(value) else {}


def list_or_empty(value: Any) -> list[Any]:
    """The list itself, [] for anything else."""
    return value if is_list(value) else []
