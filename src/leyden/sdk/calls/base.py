"""What every group of calls stands on: one request, its answer as typed objects, its error as an exception."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from leyden.errors import LeydenError
from leyden.sdk.wire import UNSET, Unset, Wire, error_of
from leyden.types import AttemptedRollout, Page, Rollout

T = TypeVar("T")

AGL = "/v1/agl"
API = "/api"


class Calls:
    """One conversation with a server. Every method raises the class of `errors.py` that the server names."""

    wire: Wire

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = UNSET,
        params: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The parsed JSON of the answer; None when it has no body. For routes that have no method here yet."""
        headers: dict[str, str] = {}
        content: bytes | None = None
        if not isinstance(body, Unset):
            content = json.dumps(to_jsonable_python(body), ensure_ascii=False).encode("utf-8", "replace")
            headers["content-type"] = "application/json"
        answer = self.wire.send(
            method, path, content=content, params=params, headers=headers, timeout_s=timeout_s
        )
        error = error_of(answer)
        if error is not None:
            raise error
        if not answer.body:
            return None
        try:
            return json.loads(answer.body)
        except ValueError:
            raise LeydenError(
                f"{self.wire.url}{path} answered with something that is not JSON",
                hint="is LEYDEN_URL the address of a Leyden server?",
            ) from None


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given: UNSET ones are left out, None stays None."""
    return {name: value for name, value in fields.items() if not isinstance(value, Unset)}


def present(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def part(text: str) -> str:
    """An id as one piece of a path."""
    return quote(text, safe="")


def as_dict(value: Any) -> Any:
    """A named tuple as an object (JSON would make it a list); anything else as it is."""
    convert = getattr(value, "_asdict", None)
    return convert() if convert is not None else value


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read(kind: type[T], value: Any) -> T:
    """A parsed answer as `kind`; LeydenError when the server sent something else."""
    try:
        return _adapter(kind).validate_python(value)
    except ValueError as error:
        name = getattr(kind, "__name__", str(kind))
        raise LeydenError(f"The server's answer is no {name}: {error}") from None


def read_optional(kind: type[T], value: Any) -> T | None:
    """Like `read`, with null as None."""
    return None if value is None else read(kind, value)


def read_page(kind: type[T], value: Any) -> Page[T]:
    """A page of `kind`."""
    return read(Page[kind], value)


def read_rollout(value: Any) -> Rollout:
    """A rollout, with its latest attempt (AttemptedRollout) when the answer has the key `attempt`."""
    return read(AttemptedRollout if isinstance(value, dict) and "attempt" in value else Rollout, value)


def read_rollouts(value: Any) -> Page[Rollout]:
    """A page of rollouts, each read by `read_rollout`."""
    page = read(Page[Any], value)
    return Page[Rollout].model_construct(
        items=[read_rollout(item) for item in page.items],
        limit=page.limit,
        offset=page.offset,
        total=page.total,
    )


def plain(values: Iterable[BaseModel | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Models or mappings as JSON objects."""
    return [v.model_dump(mode="json") if isinstance(v, BaseModel) else dict(v) for v in values]
