"""The agents of examples/zero_change, which do not know Leyden, leave complete rollouts when `leyden run` starts them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.program import LEYDEN, environment
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings

FOLDER = Path(__file__).parent.parent.parent / "examples" / "zero_change"
ANSWER = "Order 7 left for Leiden on Monday. The way takes two days, so it arrives on Wednesday."
TOOLS = ["look_up_order", "days_to"]


@pytest.fixture
def model() -> Iterator[str]:
    """The address of the example's own scripted model server, as a program of its own."""
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "scripted_model.py")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("agent", "is_streamed"),
    [("openai_agent.py", False), ("anthropic_agent.py", True), ("langgraph_agent.py", False)],
)
def test_an_agent_that_does_not_know_leyden_leaves_a_complete_rollout(
    agent: str, is_streamed: bool, model: str, tmp_path: Path
) -> None:
    db = tmp_path / "leyden.db"
    variables = {"OPENAI_BASE_URL": f"{model}/v1", "ANTHROPIC_BASE_URL": model, "LEYDEN_DB": str(db)}
    done = subprocess.run(
        [*LEYDEN, "run", "--agent", "shop", "--reward-from-exit", "--", sys.executable, str(FOLDER / agent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(**variables),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ANSWER
    with Client(app=create_app(Settings(db=str(db)))) as client:
        (rollout,) = client.list_rollouts().items
        calls = [span for span in client.spans(rollout.rollout_id).items if span.name.startswith("chat ")]
        rows = [span for span in client.span_summaries(rollout.rollout_id).items if span.kind == "llm"]
    assert (rollout.status, rollout.reward, rollout.agent) == ("succeeded", 1.0, "shop")
    assert "leyden: 3 model calls, " in done.stderr
    assert "unknown" not in done.stderr
    assert len({call.attributes["gen_ai.response.id"] for call in calls}) == len(calls) == 3
    assert all(row.input_tokens and row.output_tokens and row.cost_usd for row in rows)
    assert [call.attributes["gen_ai.request.stream"] for call in calls] == [is_streamed] * 3
    assert [name for call in calls for name in tools_called(call.attributes)] == TOOLS
    assert ANSWER in str(calls[-1].attributes["gen_ai.output.messages"]).replace('. "', '."')


def tools_called(attributes: dict[str, Any]) -> list[str]:
    """The tools that the answer of a call asks for, in order."""
    messages = json.loads(attributes["gen_ai.output.messages"])
    parts = [part for message in messages for part in message["parts"]]
    return [part["name"] for part in parts if part["type"] == "tool_call"]


def test_the_agents_do_not_know_leyden() -> None:
    assert [path.name for path in FOLDER.glob("*.py") if "import leyden" in path.read_text()] == []
