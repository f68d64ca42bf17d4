from collections.abc import Callable
from typing import Any

def spans_json(rows: list[Any], /) -> list[bytes | None]:
    """The JSON of protobuf payloads, rows as in `leyden.ingest.payload.spans_json`; None for each that only Python reads."""

class Reader:
    """Reads plain spans as `leyden.ingest.plain` does, asking the given functions for every rule."""

    def __init__(
        self,
        record: type[tuple[Any, ...]],
        learner: Callable[[tuple[str, ...]], Any],
        owner: Callable[..., Any],
        filed: Callable[..., Any],
        column: Callable[..., Any],
        preview: Callable[..., Any],
        call_hash: Callable[..., Any],
        failed_answer: Callable[..., Any],
        counts: Callable[..., Any],
        amount: Callable[..., Any],
        taken: Callable[..., Any],
        version: int,
        /,
    ) -> None: ...
    def records(
        self,
        raws: list[bytes],
        owner: tuple[Any, ...],
        before_scope: bytes,
        before_span: bytes,
        limits: Any,
        span_bytes: int,
        /,
    ) -> list[Any]:
        """The record of each plain span; None for each that only Python reads."""
