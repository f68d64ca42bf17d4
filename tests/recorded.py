"""Recorded runs as the analysis takes them, built from the raw files without the product's readers.

The outcome of a run (its reward) is used; annotations and gold answers are not.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from leyden.analysis.run import Run
from leyden.types import SpanKind, SpanSummary
from recount import data, tau_documents, trail_kind, trail_spans


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def error_fingerprint(tool: str, message: str) -> str:
    shape = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]", "<text>", message)
    shape = re.sub(r"\w*\d[\w.-]*", "<n>", shape)
    return _hash(tool, shape[:200])


def _nanoseconds(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e6) * 1000


def _period_ns(text: str) -> int:
    found = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", text)
    assert found, text
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return round((hours * 3600 + minutes * 60 + seconds) * 1e9)


_KINDS: dict[str | None, SpanKind] = {"AGENT": "agent", "LLM": "llm", "TOOL": "tool", "CHAIN": "chain"}


def _trail_span(run_id: str, sequence: int, span: dict[str, Any], parent: str | None) -> SpanSummary:
    attributes = span["span_attributes"]
    kind = _KINDS.get(trail_kind(span), "span")
    name = span["span_name"]
    tool = name if kind == "tool" else None
    start = _nanoseconds(span["timestamp"])
    error_type, _, message = span["status_message"].partition(": ")
    failed = span["status_code"] == "Error"
    usage = {
        column: int(attributes[key]) if key in attributes else None
        for column, key in (
            ("input_tokens", "llm.token_count.prompt"),
            ("output_tokens", "llm.token_count.completion"),
        )
    }
    return SpanSummary(
        rollout_id=run_id,
        attempt_id="at-1",
        sequence_id=sequence,
        trace_id=span["trace_id"],
        span_id=span["span_id"],
        parent_id=parent,
        name=name,
        kind=kind,
        status="error" if failed else "ok" if span["status_code"] == "Ok" else "unset",
        start_ns=start,
        end_ns=start + _period_ns(span["duration"]),
        agent=name.removesuffix(".run") if kind == "agent" else None,
        tool=tool,
        model=attributes.get("llm.model_name"),
        error_type=error_type if failed else None,
        error_message=message if failed else None,
        fingerprint=error_fingerprint(tool or name, span["status_message"]) if failed else None,
        call_hash=_hash(tool, attributes.get("input.value", "")) if tool else None,
        output_preview=str(attributes.get("output.value", ""))[:200],
        **usage,
    )


def trail_file(path: Path) -> Run:
    document = json.loads(path.read_text())
    run_id = "ro-" + path.stem
    spans = [_trail_span(run_id, i, span, parent) for i, (span, parent) in enumerate(trail_spans(document))]
    return Run(run_id, "at-1", "succeeded", spans)


def trail(split: str = "GAIA") -> Iterator[Run]:
    for path in sorted(data("trail", "data", split).glob("*.json")):
        yield trail_file(path)


def tau() -> Iterator[Run]:
    for document in tau_documents():
        run_id = f"ro-tau-{document['task_id']}-{document['trial']}"
        spans: list[SpanSummary] = []
        pending: dict[str, SpanSummary] = {}
        for message in document["traj"]:
            if message["role"] == "assistant":
                spans.append(_tau_span(run_id, len(spans), "chat", "llm"))
            for call in message.get("tool_calls") or []:
                name = call["function"]["name"]
                arguments = json.dumps(json.loads(call["function"]["arguments"]), sort_keys=True)
                span = _tau_span(run_id, len(spans), name, "tool")
                span.tool, span.call_hash = name, _hash(name, arguments)
                pending[call["id"]] = span
                spans.append(span)
            if message["role"] == "tool":
                span = pending[message["tool_call_id"]]
                span.output_preview = message["content"][:200]
                if message["content"].startswith("Error"):
                    span.error_message = message["content"].removeprefix("Error: ")
                    span.fingerprint = error_fingerprint(span.name, span.error_message)
        status = "succeeded" if document["reward"] == 1 else "failed"
        yield Run(run_id, "at-1", status, spans, reward=document["reward"])


def _tau_span(run_id: str, sequence: int, name: str, kind: SpanKind) -> SpanSummary:
    return SpanSummary(
        run_id, "at-1", sequence, "tr-" + run_id, f"{sequence:016x}", None, name, kind, "unset", None, None
    )
