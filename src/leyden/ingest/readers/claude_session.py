"""One Claude Code session as it is pieced together, and the run it becomes.

Session logs and hook records both fill a `Session`: prompts, model calls, tool calls and sub-agents, each under the id Claude Code
gave it. Everything is joined by those ids, never by order: calls run in parallel and end out of order. The ids of the run
follow from the session's id alone, because a session that is resumed grows: reading it again finds the same run and spans.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from leyden.ingest.readers.files import is_map
from leyden.ingest.readers.spans import RunIds, json_text, run_ids, seconds, span, text_part
from leyden.ingest.record import RecordedRun

FORMAT = "claude-code"
AGENT = "claude-code"
_ROOT = "root"
_INTERRUPTED = "[Request interrupted by user"


@dataclass
class ToolCall:
    """One tool call. `agent` is the sub-agent that made it, None for the main one; no `result` means none was recorded."""

    id: str
    name: str
    agent: str | None
    arguments: object = None
    start_ns: int | None = None
    end_ns: int | None = None
    result: str | None = None
    error: str | None = None


@dataclass
class ModelCall:
    """One answer of the model, gathered from the lines that share its message id. `new` is what it had not seen before."""

    id: str
    agent: str | None
    new: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    start_ns: int | None = None
    end_ns: int | None = None
    model: str | None = None
    requested: str | None = None
    parts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usage: dict[str, int] = field(default_factory=dict[str, int])
    stop_reason: str | None = None
    error: str | None = None


@dataclass
class SubAgent:
    """An agent that the Agent (formerly Task) tool started. `call_id` is that tool call, None while it is unknown."""

    id: str
    type: str | None = None
    call_id: str | None = None
    prompt: str | None = None
    answer: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None

    def saw(self, time_ns: int | None) -> None:
        self.start_ns, self.end_ns = _widened(self.start_ns, self.end_ns, time_ns)


@dataclass
class Session:
    """Everything recorded of one session so far. `order` numbers calls and agents as they were first heard of."""

    id: str
    file: str
    about: dict[str, object] = field(default_factory=dict[str, object])
    prompt: str | None = None
    answer: str | None = None
    last_said: str | None = None
    last_error: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    models: dict[str, ModelCall] = field(default_factory=dict[str, ModelCall])
    tools: dict[str, ToolCall] = field(default_factory=dict[str, ToolCall])
    agents: dict[str, SubAgent] = field(default_factory=dict[str, SubAgent])
    order: dict[str, int] = field(default_factory=dict[str, int])

    def saw(self, time_ns: int | None) -> None:
        self.start_ns, self.end_ns = _widened(self.start_ns, self.end_ns, time_ns)

    def agent(self, id: str) -> SubAgent:
        self._arrived(f"agent {id}")
        return self.agents.setdefault(id, SubAgent(id))

    def tool(self, id: str, *, name: str, agent: str | None) -> ToolCall:
        self._arrived(f"tool {id}")
        return self.tools.setdefault(id, ToolCall(id, name, agent))

    def model(self, id: str, *, agent: str | None) -> ModelCall:
        self._arrived(f"model {id}")
        return self.models.setdefault(id, ModelCall(id, agent))

    def _arrived(self, key: str) -> None:
        self.order.setdefault(key, len(self.order))

    @property
    def is_empty(self) -> bool:
        return not (self.prompt or self.models or self.tools)


def _widened(start: int | None, end: int | None, time: int | None) -> tuple[int | None, int | None]:
    if time is None:
        return start, end
    return (time if start is None else min(start, time)), (time if end is None else max(end, time))


# ── The run ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Step(NamedTuple):
    key: str
    parent: str
    name: str
    agent: str
    start_ns: int | None
    end_ns: int | None
    error: str | None
    attributes: dict[str, Any]


def session_run(session: Session) -> RecordedRun:
    """The session as a run: failed when the model's last answer was an API error, cancelled when the user broke it off."""
    ids = run_ids(FORMAT, session.id)
    told = {"source": FORMAT, "file": session.file, "session_id": session.id, **session.about}
    return RecordedRun(
        rollout_id=ids.rollout_id,
        attempt_id=ids.attempt_id,
        input=session.prompt,
        status=_status(session),
        start_time=seconds(session.start_ns),
        end_time=seconds(session.end_ns),
        metadata=told,
        spans=_spans(ids, session),
        failure_reason=session.last_error,
    )


def _status(session: Session) -> str:
    if session.last_error is not None:
        return "failed"
    return "cancelled" if (session.last_said or "").startswith(_INTERRUPTED) else "succeeded"


def _spans(ids: RunIds, session: Session) -> list[dict[str, object]]:
    steps = sorted(
        _steps(session),
        key=lambda step: (step.start_ns is None, step.start_ns or 0, session.order[step.key]),
    )
    return [
        span(
            ids,
            step.key,
            sequence_id=number,
            name=step.name,
            parent=step.parent or None,
            attributes={
                "gen_ai.agent.name": step.agent,
                "gen_ai.conversation.id": session.id,
                **step.attributes,
            },
            start_ns=step.start_ns,
            end_ns=step.end_ns,
            error=step.error,
        )
        for number, step in enumerate([_root_step(session), *steps], 1)
    ]


def _steps(session: Session) -> Iterator[_Step]:
    yield from (_agent_step(session, agent) for agent in session.agents.values())
    yield from (_model_step(session, call) for call in session.models.values())
    yield from (_tool_step(session, call) for call in session.tools.values())


def _root_step(session: Session) -> _Step:
    attributes = _invocation(AGENT, session.prompt, session.answer)
    return _Step(
        key=_ROOT,
        parent="",
        name=f"invoke_agent {AGENT}",
        agent=AGENT,
        start_ns=session.start_ns,
        end_ns=session.end_ns,
        error=session.last_error,
        attributes=attributes,
    )


def _agent_step(session: Session, agent: SubAgent) -> _Step:
    name = _agent_name(session, agent.id)
    call = session.tools.get(agent.call_id or "")
    return _Step(
        key=f"agent {agent.id}",
        parent=f"tool {call.id}" if call and call.agent != agent.id else _ROOT,
        name=f"invoke_agent {name}",
        agent=name,
        start_ns=agent.start_ns,
        end_ns=agent.end_ns,
        error=None,
        attributes={**_invocation(name, agent.prompt, agent.answer), "gen_ai.agent.id": agent.id},
    )


def _invocation(name: str, prompt: str | None, answer: str | None) -> dict[str, Any]:
    asked = [{"role": "user", "parts": [text_part(prompt)]}] if prompt else None
    said = [{"role": "assistant", "parts": [text_part(answer)]}] if answer else None
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": name,
        "gen_ai.provider.name": "anthropic",
        "gen_ai.input.messages": json_text(asked),
        "gen_ai.output.messages": json_text(said),
    }


def _model_step(session: Session, call: ModelCall) -> _Step:
    model = call.model or call.requested
    said = {"role": "assistant", "parts": call.parts, "finish_reason": call.stop_reason}
    return _Step(
        key=f"model {call.id}",
        parent=_within(call.agent),
        name=f"chat {model}" if model else "chat",
        agent=_agent_name(session, call.agent),
        start_ns=call.start_ns,
        end_ns=call.end_ns,
        error=call.error,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": call.requested or call.model,
            "gen_ai.response.model": call.model,
            "gen_ai.response.id": call.id,
            "gen_ai.response.finish_reasons": [call.stop_reason] if call.stop_reason else None,
            "gen_ai.input.messages": json_text(call.new) if call.new else None,
            "gen_ai.output.messages": json_text([said]),
            "error.type": None if call.error is None else "api_error",
            **_tokens(call.usage),
        },
    )


def _tokens(usage: dict[str, int]) -> dict[str, Any]:
    """Token counts in the GenAI conventions, where input includes what was read from and written to the cache; Claude's does
    not."""
    if not usage:
        return {}
    read = usage.get("cache_read_input_tokens")
    written = usage.get("cache_creation_input_tokens")
    return {
        "gen_ai.usage.input_tokens": usage.get("input_tokens", 0) + (read or 0) + (written or 0),
        "gen_ai.usage.output_tokens": usage.get("output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": read,
        "gen_ai.usage.cache_write.input_tokens": written,
        "gen_ai.usage.reasoning.output_tokens": usage.get("thinking_tokens"),
    }


def _tool_step(session: Session, call: ToolCall) -> _Step:
    return _Step(
        key=f"tool {call.id}",
        parent=_within(call.agent),
        name=f"execute_tool {call.name}",
        agent=_agent_name(session, call.agent),
        start_ns=call.start_ns,
        end_ns=call.end_ns,
        error=call.error,
        attributes={
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.call.arguments": json_text(call.arguments),
            "gen_ai.tool.call.result": call.result,
            "error.type": None if call.error is None else "tool_error",
        },
    )


def _within(agent: str | None) -> str:
    return _ROOT if agent is None else f"agent {agent}"


def _agent_name(session: Session, agent: str | None) -> str:
    if agent is None:
        return AGENT
    known = session.agents[agent]
    call = session.tools.get(known.call_id or "")
    asked = call.arguments.get("subagent_type") if call and is_map(call.arguments) else None
    return known.type or (asked if isinstance(asked, str) else None) or "subagent"
