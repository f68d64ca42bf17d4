"""Counts what tools did, straight from recorded files, without a line of the product.

An independent answer to the same questions the analysis answers: how often each tool was called, how often it failed
and with which words, how often the next call after an error is the same tool, how often a call repeats the one before,
and how many tokens the innermost model calls used. It reads raw TRAIL and tau-bench files and nothing else.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


def data(*parts: str) -> Path:
    """A path in the recorded data; skips the test when it is absent, unless nothing may skip."""
    root = Path(
        os.environ.get("LEYDEN_DATA") or Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    )
    path = root.joinpath(*parts)
    if not path.exists():
        if os.environ.get("LEYDEN_REQUIRE_ALL") == "1":
            pytest.fail(f"recorded data is missing: {path}")
        pytest.skip(f"no recorded data at {path}")
    return path


@dataclass
class RawCall:
    """One tool call as the file has it. `error` is the message, None when it did not fail."""

    tool: str
    arguments: str
    error: str | None


@dataclass
class RawRun:
    """One recorded run: its tool calls in order, and (input, output) tokens of its innermost model calls."""

    id: str
    calls: list[RawCall] = field(default_factory=list)
    tokens: list[tuple[int, int]] = field(default_factory=list)
    reward: float | None = None


@dataclass
class Recount:
    """The answer key computed from raw runs."""

    runs: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    failing_runs: Counter[str] = field(default_factory=Counter)
    messages: dict[str, Counter[str]] = field(default_factory=dict)
    same_tool_after_error: Counter[str] = field(default_factory=Counter)
    identical_repeats: Counter[str] = field(default_factory=Counter)
    tokens_in: int = 0
    tokens_out: int = 0
    failed_runs: int = 0
    failed_runs_with_tool_error: int = 0


def recount(runs: Iterable[RawRun]) -> Recount:
    total = Recount()
    for run in runs:
        total.runs += 1
        for call in run.calls:
            total.calls[call.tool] += 1
            if call.error is not None:
                total.failures[call.tool] += 1
                total.messages.setdefault(call.tool, Counter())[call.error] += 1
        for tool in {c.tool for c in run.calls if c.error is not None}:
            total.failing_runs[tool] += 1
        for a, b in zip(run.calls, run.calls[1:], strict=False):
            total.same_tool_after_error[a.tool] += a.error is not None and a.tool == b.tool
            total.identical_repeats[a.tool] += (a.tool, a.arguments) == (b.tool, b.arguments)
        total.tokens_in += sum(t for t, _ in run.tokens)
        total.tokens_out += sum(t for _, t in run.tokens)
        if run.reward == 0:
            total.failed_runs += 1
            total.failed_runs_with_tool_error += any(c.error is not None for c in run.calls)
    return total


def trail_spans(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Every span of a TRAIL file with the id of the span that holds it, outer before inner."""
    stack: list[tuple[dict[str, Any], str | None]] = [(s, None) for s in reversed(document["spans"])]
    while stack:
        span, parent = stack.pop()
        yield span, parent
        stack.extend((child, span["span_id"]) for child in reversed(span["child_spans"]))


def trail_kind(span: dict[str, Any]) -> str | None:
    return span["span_attributes"].get("openinference.span.kind")


def trail_runs(split: str = "GAIA") -> Iterator[RawRun]:
    for path in sorted(data("trail", "data", split).glob("*.json")):
        document = json.loads(path.read_text())
        run = RawRun(path.stem)
        seen: set[str] = set()
        for span, _ in trail_spans(document):
            if span["span_id"] in seen:
                continue  # one SWE-Bench file holds the same model call twice
            seen.add(span["span_id"])
            attributes = span["span_attributes"]
            if trail_kind(span) == "TOOL":
                error = span["status_message"] if span["status_code"] == "Error" else None
                run.calls.append(RawCall(span["span_name"], attributes.get("input.value", ""), error))
            if trail_kind(span) == "LLM" and not _holds_llm(span):
                prompt = int(attributes.get("llm.token_count.prompt") or 0)
                completion = int(attributes.get("llm.token_count.completion") or 0)
                run.tokens.append((prompt, completion))
        yield run


def _holds_llm(span: dict[str, Any]) -> bool:
    return any(trail_kind(c) == "LLM" or _holds_llm(c) for c in span["child_spans"])


def tau_documents() -> list[dict[str, Any]]:
    return json.loads(data("tau-bench", "gpt-4o-airline.json").read_text())


def tau_runs() -> Iterator[RawRun]:
    for document in tau_documents():
        run = RawRun(f"{document['task_id']}-{document['trial']}", reward=document["reward"])
        pending: dict[str, RawCall] = {}
        for message in document["traj"]:
            for call in message.get("tool_calls") or []:
                function = call["function"]
                arguments = json.dumps(json.loads(function["arguments"]), sort_keys=True)
                pending[call["id"]] = RawCall(function["name"], arguments, None)
                run.calls.append(pending[call["id"]])
            if message["role"] == "tool" and message["content"].startswith("Error"):
                pending[message["tool_call_id"]].error = message["content"]
        yield run
