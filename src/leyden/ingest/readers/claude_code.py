"""Read Claude Code: its session logs (`~/.claude/projects/**/*.jsonl`) and recorded hook calls; one run per session.

A log line is {type, message, uuid, timestamp, sessionId, …}; a sub-agent writes its own file below a folder named after the
session (older versions: beside it, or into the session's file as a side chain). A hook record is a hook's input, bare or as
{input: …}, one per line; it carries no model call and, unless the recorder added "timestamp", no time. Both kinds may describe one
session and are joined by its ids. Lines of other types (attachments, snapshots, requests) hold no event of the run and are
passed over. The model's usage is repeated on every line of one answer and counts once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leyden.errors import BadInput
from leyden.ingest.readers.claude_session import FORMAT, Session, SubAgent, session_run
from leyden.ingest.readers.files import (
    LINE_SUFFIXES,
    BadRecord,
    Found,
    Malformed,
    decode,
    files,
    is_hook,
    is_list,
    is_map,
    looks_like,
    merged,
    values,
    wrong_format,
)
from leyden.ingest.readers.spans import (
    call_part,
    content_parts,
    iso_ns,
    json_text,
    plain_text,
    response_part,
    text_part,
)
from leyden.ingest.record import RecordedRun

DEFAULT = Path("~/.claude/projects")
_SUBAGENT_TOOLS = frozenset({"Agent", "Task"})


def read(path: Path) -> Iterator[RecordedRun | BadRecord]:
    """One run per session under `path`, in file order. Raises BadInput when there is nothing to read."""
    if path == DEFAULT and not path.expanduser().exists():
        raise BadInput(
            f"{path} does not exist: Claude Code has kept no session here.",
            "Name the folder or file to read.",
        )
    listed = files(path, LINE_SUFFIXES)
    return merged(item for bundle in _bundles(listed) for item in _read(bundle))


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bundles(listed: list[Path]) -> Iterator[list[Path]]:
    """Each session's file followed by those of its sub-agents; a sub-agent's file without a session's stands alone."""
    sessions = [file for file in listed if not _is_subagent(file)]
    beside = {folder: _subagents_in(folder) for folder in {file.parent for file in sessions}}
    taken: set[Path] = set()
    for file in sessions:
        below = sorted((file.parent / file.stem).rglob("agent-*.jsonl"))
        own = [*below, *beside[file.parent].get(file.stem, [])]
        taken.update(own)
        yield [file, *own]
    yield from ([file] for file in listed if _is_subagent(file) and file not in taken)


def _is_subagent(file: Path) -> bool:
    return file.stem.startswith("agent-")


def _subagents_in(folder: Path) -> dict[object, list[Path]]:
    """The sub-agents' files directly in `folder`, by the session their first line names."""
    found: dict[object, list[Path]] = {}
    for file in sorted(folder.glob("agent-*.jsonl")):
        found.setdefault(_session_of(file), []).append(file)
    return found


def _session_of(file: Path) -> object:
    try:
        with file.open("rb") as lines:
            first = decode(lines.readline())
    except (OSError, Malformed):
        return None
    return first.get("sessionId") if is_map(first) else None


def _read(bundle: list[Path]) -> Iterator[RecordedRun | BadRecord]:
    logs: dict[str, _Log] = {}
    for file in bundle:
        before, quiet = len(logs), True
        for found in values(file):
            bad = found if isinstance(found, BadRecord) else _add(found, logs)
            if bad:
                quiet = False
                yield bad
        if quiet and len(logs) == before and file == bundle[0]:
            yield BadRecord(file, "", "holds no message of a session and no hook record")
    for id, log in logs.items():
        if log.session.is_empty:
            yield BadRecord(bundle[0], f"session {id}", "holds no prompt, model call or tool call")
        else:
            yield session_run(log.session)


def _add(found: Found, logs: dict[str, "_Log"]) -> BadRecord | None:
    """Add one line to the session it belongs to; the reason when it cannot be."""
    value = found.value
    try:
        if is_map(value) and is_hook(value):
            hook = value if "hook_event_name" in value else value["input"]
            _log(logs, hook.get("session_id"), found).hook(hook, _time_ns(value, hook))
        elif is_map(value) and isinstance(value.get("type"), str):
            if value["type"] in ("user", "assistant"):
                _log(logs, value.get("sessionId"), found).line(value, found.file)
        else:
            expected = "lines of a session log or hook records"
            raise Malformed(wrong_format(value, wanted=FORMAT, expected=expected))
    except Malformed as error:
        return BadRecord(found.file, found.where, str(error))
    return None


def _log(logs: dict[str, "_Log"], session_id: object, found: Found) -> "_Log":
    if not isinstance(session_id, str) or not session_id:
        like = looks_like(found.value)
        raise Malformed("names no session" + (f"; it looks like {like}" if like and like != FORMAT else ""))
    if session_id not in logs:
        logs[session_id] = _Log(Session(session_id, found.file.name))
    return logs[session_id]


def _time_ns(record: dict[str, Any], hook: dict[str, Any]) -> int | None:
    time = record.get("timestamp", hook.get("timestamp"))
    return _scaled(time, 1_000_000_000) if isinstance(time, int | float) else iso_ns(time)


def _scaled(value: object, factor: int) -> int | None:
    """A number of seconds or milliseconds as whole nanoseconds; None when it is no number that fits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    ns = value * factor
    return int(ns) if 0 <= ns < 2**63 else None


# ── Lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Log:
    """A session and what it takes to read on: what each agent was told since its model last spoke, and lines seen before."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.new: dict[str | None, list[dict[str, Any]]] = {}
        self.since_ns: dict[str | None, int | None] = {}
        self.seen: set[str] = set()
        self.chains: dict[str, str] = {}

    def line(self, line: dict[str, Any], file: Path) -> None:
        """Add a user or assistant line of a session log. Raises Malformed, having changed nothing, when it is not one."""
        message, time_ns = line.get("message"), iso_ns(line.get("timestamp"))
        if not is_map(message):
            raise Malformed(f"has a {line['type']} line without a message")
        parts = _parts(message.get("content"))
        uuid = line.get("uuid")
        if isinstance(uuid, str):
            # A resumed session may repeat the lines it continues.
            if uuid in self.seen:
                return
            self.seen.add(uuid)
        agent = self._agent(line, message, file)
        self.session.saw(time_ns)
        for key in ("cwd", "version", "gitBranch"):
            if isinstance(line.get(key), str):
                self.session.about.setdefault(key, line[key])
        if agent is not None:
            self.session.agents[agent].saw(time_ns)
        if line["type"] == "assistant":
            self._assistant(line, message, parts, agent, time_ns)
        else:
            self._user(line, message, parts, agent, time_ns)
        self.since_ns[agent] = time_ns

    def _agent(self, line: dict[str, Any], message: dict[str, Any], file: Path) -> str | None:
        """The id of the sub-agent whose line this is, made known to the session; None for the main agent."""
        named, uuid = line.get("agentId"), line.get("uuid")
        if not line.get("isSidechain"):
            return None
        if isinstance(named, str) and named:
            if named not in self.session.agents:
                self._describe(self.session.agent(named), file)
            id = named
        else:
            # Before agents had ids: a side chain is known by its first line.
            parent = line.get("parentUuid")
            id = self.chains.get(parent if isinstance(parent, str) else "", str(uuid))
            self.chains[str(uuid)] = id
        agent = self.session.agent(id)
        agent.type = agent.type or _text(line.get("attributionAgent"))
        if agent.prompt is None and line["type"] == "user":
            agent.prompt = plain_text(message.get("content")) or None
            agent.call_id = agent.call_id or self._call_with_prompt(agent.prompt)
        return id

    @staticmethod
    def _describe(agent: SubAgent, file: Path) -> None:
        """Fill in what the file beside a sub-agent's log says of it: its type and the call that started it."""
        try:
            about = decode(file.with_suffix(".meta.json").read_bytes())
        except (OSError, Malformed):
            return
        if is_map(about) and file.stem == f"agent-{agent.id}":
            agent.type = _text(about.get("agentType")) or agent.type
            agent.call_id = _text(about.get("toolUseId")) or agent.call_id

    def _call_with_prompt(self, prompt: str | None) -> str | None:
        taken = {agent.call_id for agent in self.session.agents.values()}
        for call in self.session.tools.values():
            given = call.arguments.get("prompt") if is_map(call.arguments) else None
            if call.name in _SUBAGENT_TOOLS and prompt and given == prompt and call.id not in taken:
                return call.id
        return None

    def _assistant(
        self,
        line: dict[str, Any],
        message: dict[str, Any],
        parts: list[dict[str, Any]],
        agent: str | None,
        time_ns: int | None,
    ) -> None:
        session = self.session
        id = _text(message.get("id")) or str(line.get("uuid"))
        if id not in session.models:
            begun = session.model(id, agent=agent)
            begun.new, begun.start_ns = self.new.pop(agent, []), self.since_ns.get(agent) or time_ns
        call = session.models[id]
        call.end_ns = time_ns or call.end_ns
        call.parts += parts
        call.model = call.model or _model(message.get("model"))
        call.requested = call.requested or _model(line.get("requestedModel"))
        call.stop_reason = _text(message.get("stop_reason")) or call.stop_reason
        for name, count in _usage(message.get("usage")).items():
            # Repeated on each line of an answer, and partial on the earlier ones in some versions.
            call.usage[name] = max(count, call.usage.get(name, 0))
        text = _said(parts)
        if line.get("isApiErrorMessage"):
            call.error = text or "API error"
        for part in parts:
            if part["type"] == "tool_call":
                tool = session.tool(part["id"], name=part["name"], agent=agent)
                tool.arguments, tool.start_ns = part["arguments"], tool.start_ns or time_ns
        if agent is None:
            session.last_said, session.last_error = text, call.error
            session.answer = text or session.answer
        elif text:
            session.agents[agent].answer = text

    def _user(
        self,
        line: dict[str, Any],
        message: dict[str, Any],
        parts: list[dict[str, Any]],
        agent: str | None,
        time_ns: int | None,
    ) -> None:
        self.new.setdefault(agent, []).append({"role": "user", "parts": parts})
        outcome = line.get("toolUseResult")
        for part in parts:
            if part["type"] != "tool_call_response":
                continue
            call = self.session.tool(part["id"], name="unknown", agent=agent)
            call.end_ns, call.result = time_ns, part["response"]
            call.error = part["response"] if part.get("is_error") else None
            if is_map(outcome) and isinstance(outcome.get("agentId"), str) and call.name in _SUBAGENT_TOOLS:
                self.session.agent(outcome["agentId"]).call_id = call.id
        text = _said(parts)
        if agent is None and text:
            self.session.last_said = text
            told = line.get("isMeta") or line.get("isCompactSummary")
            self.session.prompt = self.session.prompt or (None if told else text)

    # ── Hooks ────────────────────────────────────────────────────────────────────────────────────────────────────

    def hook(self, hook: dict[str, Any], time_ns: int | None) -> None:
        """Add one hook call. Events that say nothing new about the run (batches, notifications) are passed over."""
        session, agent_id = self.session, _text(hook.get("agent_id"))
        event = hook.get("hook_event_name")
        session.saw(time_ns)
        if isinstance(hook.get("cwd"), str):
            session.about.setdefault("cwd", hook["cwd"])
        agent = session.agent(agent_id) if agent_id else None
        if agent:
            agent.saw(time_ns)
            agent.type = agent.type or _text(hook.get("agent_type"))
        if event in ("PreToolUse", "PostToolUse", "PostToolUseFailure"):
            self._tool_hook(hook, agent_id, time_ns)
        elif event == "UserPromptSubmit":
            session.prompt = session.prompt or _text(hook.get("prompt"))
        elif event == "SubagentStop" and agent:
            agent.answer = _text(hook.get("last_assistant_message")) or agent.answer
        elif event == "Stop":
            session.answer = _text(hook.get("last_assistant_message")) or session.answer

    def _tool_hook(self, hook: dict[str, Any], agent: str | None, time_ns: int | None) -> None:
        id, name = _text(hook.get("tool_use_id")), _text(hook.get("tool_name"))
        if id is None or name is None:
            raise Malformed(f"has a {hook['hook_event_name']} hook without tool_use_id or tool_name")
        call = self.session.tool(id, name=name, agent=agent)
        call.arguments = hook.get("tool_input") if call.arguments is None else call.arguments
        if hook["hook_event_name"] == "PreToolUse":
            call.start_ns = call.start_ns or time_ns
            return
        call.end_ns = call.end_ns or time_ns
        took_ns = _scaled(hook.get("duration_ms"), 1_000_000)
        if call.start_ns is None and time_ns is not None and took_ns is not None:
            call.start_ns = max(time_ns - took_ns, 0)
        if hook["hook_event_name"] == "PostToolUseFailure":
            call.error = _text(hook.get("error")) or "the tool failed"
            call.result = call.result or call.error
            return
        response = hook.get("tool_response")
        call.result = call.result or json_text(response)
        if is_map(response) and isinstance(response.get("agentId"), str) and name in _SUBAGENT_TOOLS:
            started = self.session.agent(response["agentId"])
            started.call_id = id
            started.prompt = started.prompt or _text(response.get("prompt"))


# ── Messages in Anthropic's format ───────────────────────────────────────────────────────────────────────────────


def _parts(content: object) -> list[dict[str, Any]]:
    """Content blocks as GenAI message parts. Raises Malformed for blocks without what they are joined by."""
    if not is_list(content):
        return content_parts(content)
    return [_part(block) for block in content]


def _part(block: object) -> dict[str, Any]:
    if not is_map(block) or not isinstance(block.get("type"), str):
        raise Malformed("has a content block without a type")
    kind = block["type"]
    if kind == "tool_use":
        if not _text(block.get("id")) or not _text(block.get("name")):
            raise Malformed("has a tool_use block without id or name")
        return call_part(id=block["id"], name=block["name"], arguments=block.get("input"))
    if kind == "tool_result":
        if not _text(block.get("tool_use_id")):
            raise Malformed("has a tool_result block without tool_use_id")
        part = response_part(id=block["tool_use_id"], response=_result(block.get("content")))
        return {**part, "is_error": True} if block.get("is_error") is True else part
    if kind == "text":
        return text_part(str(block.get("text", "")))
    if kind in ("tool_call", "tool_call_response"):
        raise Malformed(f"has a content block of another format: {kind}")
    if kind == "thinking":
        return {"type": "reasoning", "content": str(block.get("thinking", ""))}
    return _without_data(block)


def _result(content: object) -> str:
    """A tool result as text; blocks that are not text appear as JSON."""
    if isinstance(content, str):
        return content
    if not is_list(content):
        return json_text(content) or ""
    texts = [
        block["text"]
        if is_map(block) and isinstance(block.get("text"), str)
        else json_text(_without_data(block))
        for block in content
    ]
    return "\n".join(text for text in texts if text)


def _without_data(block: Any) -> Any:
    """An image or document block less its base64, which would outweigh the run; its length stands in for it."""
    source = block.get("source") if is_map(block) else None
    if not is_map(source) or not isinstance(source.get("data"), str):
        return block
    return {**block, "source": {**source, "data": f"<{len(source['data'])} characters omitted>"}}


def _said(parts: list[dict[str, Any]]) -> str | None:
    return "\n".join(part["content"] for part in parts if part["type"] == "text") or None


def _usage(usage: object) -> dict[str, int]:
    if not is_map(usage):
        return {}
    details = usage.get("output_tokens_details")
    counts = {**usage, **(details if is_map(details) else {})}
    names = (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "thinking_tokens",
    )
    return {
        name: counts[name]
        for name in names
        if isinstance(counts.get(name), int) and not isinstance(counts[name], bool)
    }


def _model(name: object) -> str | None:
    """A model's name; what the CLI wrote in the model's place has none."""
    return None if name == "<synthetic>" else _text(name)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
