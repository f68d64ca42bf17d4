"""The real Claude Code CLI through the gateway, on a scripted model: it works as it does without, and each model call is one span."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.model_server import Answer, ModelServer, Request, failing
from faults.processes import until
from gateway.claude_model import PROMPT, SUBTASK, claude
from gateway.serving import Gateway, gateway, only
from leyden.cli.run_environment import Ids, environment_of
from leyden.types import Span, SpanSummary


@dataclass
class Session:
    """What came of one: what the CLI said, the model's requests, the spans."""

    lines: list[dict[str, Any]]
    requests: list[Request]
    spans: list[Span]
    left_the_machine: list[Request]
    narrow: list[SpanSummary]

    @property
    def refused(self) -> list[Span]:
        """The calls that ended in a 529."""
        return [span for span in self.spans if span.attributes["http.response.status_code"] == 529]


class Overloaded:
    """The scripted model, which answers the second call of the session 529 so many times."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self, request: Request) -> Answer:
        if self._left and b"tool_result" in request.body:
            self._left -= 1
            return failing(529, message="Overloaded")
        return claude(request)


def played(folder: Path, model: Any, *, telemetry: bool = False, **retry: Any) -> Session:
    """One whole session through a gateway that retries like this. telemetry: whether the CLI sends its own spans too."""
    if importlib.util.find_spec("claude_agent_sdk") is None:
        reason = "claude-agent-sdk is not installed"
        pytest.fail(reason) if os.environ.get("LEYDEN_REQUIRE_ALL") == "1" else pytest.skip(reason)
    with (
        ModelServer(model) as server,
        ModelServer() as proxy,
        gateway(folder, only(server, retry=retry)) as gate,
    ):
        lines = run(folder, f"{gate.url}{gate.base}", proxy.url, telemetry_of(gate) if telemetry else {})
        asked = [one for one in server.requests if one.path == "/v1/messages"]
        until(lambda: tried(gate.client.spans(gate.rollout).items) >= len(asked))
        narrow = gate.client.span_summaries(gate.rollout, limit=1000).items
        return Session(lines, asked, gate.client.spans(gate.rollout).items, proxy.requests, narrow)


def telemetry_of(gate: Gateway) -> dict[str, str]:
    """What makes the CLI send its spans to where the gateway records."""
    ids = Ids(gate.rollout, "at-1", "ab" * 16, "cd" * 8)
    named = environment_of({}, ids, url=gate.url)
    return {
        **{name: value for name, value in named.items() if name.startswith("OTEL_") or name == "TRACEPARENT"},
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
        "OTEL_TRACES_EXPORTER": "otlp",
    }


def tried(spans: list[Span]) -> int:
    return sum(span.attributes.get("leyden.gateway.tries", 0) for span in spans)


def run(folder: Path, base_url: str, proxy: str, more: Mapping[str, str]) -> list[dict[str, Any]]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("CLAUDE", "ANTHROPIC"))} | more
    script = Path(__file__).with_name("claude_session.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), base_url, proxy, PROMPT],
        env=ours, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session in which all goes well."""
    return played(tmp_path_factory.mktemp("claude"), claude, tries=1)


def test_the_cli_works_through_the_gateway(plain: Session) -> None:
    said = [line["text"] for line in plain.lines if line["type"] == "answer" and line["text"]]
    # The sub-agent runs in the background; what it says last comes while the session is still read, or not.
    assert [text for text in said if text != "sub done"] == ["I will look.", "Done."]
    assert [line for line in plain.lines if line["type"] == "result"][-1] == {
        "type": "result",
        "subtype": "success",
        "text": "Done.",
    }


def test_nothing_leaves_the_machine(plain: Session) -> None:
    assert [one.path for one in plain.left_the_machine] == []


def test_each_call_of_the_cli_is_one_span_with_its_request_and_answer(plain: Session) -> None:
    assert len(plain.spans) == len(plain.requests) >= 5
    assert all(request.query == "beta=true" and request.json["stream"] for request in plain.requests)
    sent = sorted(request.body.decode() for request in plain.requests)
    assert sorted(span.attributes["leyden.request.body"] for span in plain.spans) == sent
    assert len({span.attributes["gen_ai.response.id"] for span in plain.spans}) == len(plain.spans)
    for span in plain.spans:
        said = span.attributes
        assert (said["leyden.gateway.tries"], said["leyden.gateway.outcome"]) == (1, "ok")
        assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (1230, 40)
        assert (said["leyden.usage.cache_read"], said["leyden.usage.cache_write"]) == (200, 30)
        assert said["gen_ai.usage.cost"] > 0
        assert said["gen_ai.conversation.id"] == plain.requests[0].headers["x-claude-code-session-id"]


def test_tool_calls_and_the_calls_of_the_sub_agent_are_told_apart(plain: Session) -> None:
    def tools(spans: list[Span]) -> list[str]:
        said = [json.loads(span.attributes["gen_ai.output.messages"]) for span in spans]
        parts = [part for messages in said for message in messages for part in message["parts"]]
        return [part["name"] for part in parts if part["type"] == "tool_call"]

    inner = [span for span in plain.spans if "gen_ai.agent.id" in span.attributes]
    assert [SUBTASK in span.attributes["leyden.request.body"] for span in inner] == [True, True]
    assert tools(inner) == ["Bash"]
    assert tools([span for span in plain.spans if span not in inner]) == ["Bash", "Agent"]


def test_calls_that_the_cli_itself_retries_are_spans_of_their_own(tmp_path: Path) -> None:
    session = played(tmp_path, Overloaded(2), tries=1)
    assert session.lines[-1]["text"] == "Done."
    assert len(session.spans) == len(session.requests)
    refused = session.refused
    assert [span.attributes["error.type"] for span in refused] == ["scripted_error"] * 2
    assert [span.status.status_code for span in refused] == ["ERROR"] * 2
    assert {span.attributes["leyden.gateway.tries"] for span in session.spans} == {1}
    assert all("gen_ai.usage.cost" not in span.attributes for span in refused)


def test_what_the_gateway_retries_the_cli_never_sees(tmp_path: Path) -> None:
    session = played(tmp_path, Overloaded(2), tries=3, base_s=0)
    assert session.lines[-1]["text"] == "Done."
    assert len(session.spans) == len(session.requests) - 2
    assert session.refused == []
    assert sorted(span.attributes["leyden.gateway.tries"] for span in session.spans)[-2:] == [1, 3]
    assert {request.headers["x-stainless-retry-count"] for request in session.requests} == {"0"}


def test_a_call_that_the_clis_own_telemetry_reports_too_is_counted_once(tmp_path: Path) -> None:
    session = played(tmp_path, claude, telemetry=True, tries=1)
    reported = [span for span in session.narrow if span.name == "claude_code.llm_request"]
    calls = [span for span in session.narrow if span.kind == "llm"]
    assert len(reported) == len(calls) == len(session.requests)
    assert sum(span.cost_usd or 0 for span in session.narrow) == pytest.approx(
        sum(span.attributes.get("gen_ai.usage.cost", 0) for span in session.spans)
    )
    assert {span.input_tokens for span in calls} == {1230}
