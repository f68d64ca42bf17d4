"""`leyden.rollout(...)`: everything recorded inside belongs to one rollout.

Many may run at once in one process, nested or side by side: asyncio tasks inherit theirs, and a function handed to another
thread keeps it through `leyden.sdk.trace.bind(fn)` or `contextvars.copy_context().run(fn)`.
"""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from leyden.sdk import config
from leyden.sdk.capture import clip, safe_str
from leyden.sdk.context import Binding, bind_rollout, is_sampled, new_attempt_id, new_rollout_id, swap
from leyden.sdk.delivery import SILENCE_S, RolloutEnded, RolloutStarted

if TYPE_CHECKING:
    from leyden.types import Mode

_INPUT_CHARS = 262_144


class RolloutScope:
    """The rollout while it runs, a context manager for `with` and `async with`; `rollout_id` and `attempt_id` name it.

    One object is one rollout: enter it once.
    """

    def __init__(
        self,
        input: Any,
        *,
        rollout_id: str | None,
        attempt_id: str | None,
        mode: "Mode | None",
        resources_id: str | None,
        metadata: dict[str, Any] | None,
        name: str | None,
    ) -> None:
        self.rollout_id = rollout_id or new_rollout_id()
        self.attempt_id = attempt_id or new_attempt_id()
        self._claimed = rollout_id is not None
        self._fields = {"input": input, "mode": mode, "resources_id": resources_id, "metadata": metadata}
        self._name = name
        self._sampled = False
        self._previous: Context | None = None

    @property
    def binding(self) -> Binding:
        """The ids, as spans are stamped with them."""
        return Binding(self.rollout_id, self.attempt_id, self._sampled)

    def __enter__(self) -> Self:
        at_work = config.running
        share = at_work.config.settings.sdk_sample if at_work else 0.0
        # What a runner claimed is always recorded: somebody waits for its reward.
        self._sampled = at_work is not None and (self._claimed or is_sampled(self.rollout_id, share))
        if at_work is not None and self._sampled and not self._claimed:
            at_work.exporter.add(RolloutStarted(self._started()))
        context = bind_rollout(self.binding)
        if not self._claimed:
            # A rollout of its own is a trace of its own: its first span must not hang below another rollout's.
            context = set_span_in_context(INVALID_SPAN, context)
        self._previous = swap(context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            swap(self._previous)
            self._previous = None
        at_work = config.running
        if at_work is None or self._claimed or not self._sampled:
            return
        body: dict[str, Any] = {"status": "succeeded"}
        if error is not None:
            body = {"status": "failed", "failure_reason": f"{type(error).__name__}: {safe_str(error)}"}
        at_work.exporter.add(RolloutEnded(self.rollout_id, self.attempt_id, body))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _started(self) -> dict[str, Any]:
        fields = {key: clip(value, _INPUT_CHARS) for key, value in self._fields.items()}
        if self._name:
            metadata = fields["metadata"]
            fields["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "name": self._name}
        return {
            "rollout_id": self.rollout_id,
            "attempt_id": self.attempt_id,
            **fields,
            "start_time": time.time(),
            # The exporter speaks for it once a minute; should this process die, the server notices.
            "config": {"unresponsive_seconds": SILENCE_S},
        }


def rollout(
    input: Any = None,
    *,
    rollout_id: str | None = None,
    attempt_id: str | None = None,
    mode: "Mode | None" = None,
    resources_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    name: str | None = None,
) -> RolloutScope:
    """Open a rollout: `with leyden.rollout({"task": 7}) as r:`. Never waits for the server.

    Without ids a new rollout is announced to the server; leaving the block ends it as succeeded, or as failed with the
    exception that left it, which passes through untouched. With `rollout_id` and `attempt_id` (a runner claimed it) spans
    are bound to it and its state is left to the runner. `name` is kept in the rollout's metadata.

    Raises ValueError when only one of the ids is given.
    """
    if (rollout_id is None) != (attempt_id is None):
        raise ValueError("rollout_id and attempt_id belong together: give both, or neither for a new rollout")
    return RolloutScope(
        input,
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        mode=mode,
        resources_id=resources_id,
        metadata=metadata,
        name=name,
    )
