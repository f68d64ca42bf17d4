"""`leyden run`: the program's own streams and exit status, its environment, signals, and the rollout it leaves."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.program import LEYDEN, environment
from fakes.model_server import ModelServer
from leyden.cli.run_environment import Ids, environment_of
from leyden.cli.run_record import Heartbeats
from leyden.sdk.client import Client
from leyden.server.app import create_app
from leyden.settings import Settings

IDS = Ids("ro-1", "at-1", "a" * 32, "b" * 16)
CALL = """
import json, os, urllib.request
body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello?"}]}).encode()
key = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
asked = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, key)
print(json.load(urllib.request.urlopen(asked))["choices"][0]["message"]["content"])
"""


def run(*words: str, input: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """`leyden run WORDS…` as a program of its own."""
    return subprocess.run(
        [*LEYDEN, "run", *words],
        input=input,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(**variables),
    )


def python(code: str) -> list[str]:
    return ["--", sys.executable, "-c", code]


@pytest.fixture
def stored(db: Path) -> Callable[[], Any]:
    """The one rollout that the database holds, with its spans."""

    def look() -> Any:
        with Client(app=create_app(Settings(db=str(db)))) as client:
            (item,) = client.list_rollouts().items
            detail = client.rollout_detail(item.rollout_id)
            return detail, client.spans(item.rollout_id).items

    return look


def test_a_program_keeps_its_streams_and_its_calls_become_a_rollout(stored: Callable[[], Any]) -> None:
    echo = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('oh\\n')"
    with ModelServer() as upstream:
        done = run(
            "--agent", "shop", "--name", "try", "--mode", "train", "--input", "Hello?", "--reward-from-exit",
            *python(echo + CALL), input="words", OPENAI_BASE_URL=f"{upstream.url}/v1",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "WORDSHello from the scripted model\n"
    detail, spans = stored()
    assert done.stderr == (
        f"oh\nleyden: 1 model call, 7 tokens in, 5 out, $0.000004; leyden show {detail.rollout_id}\n"
    )
    assert (detail.status, detail.input, detail.mode) == ("succeeded", "Hello?", "train")
    assert (detail.agent, detail.reward, detail.metadata["name"]) == ("shop", 1.0, "try")
    assert {span.name for span in spans} == {
        "invoke_agent shop", "chat gpt-4o-mini", "agentlightning.annotation",
    }  # fmt: skip
    assert len({span.trace_id for span in spans}) == 1


def test_a_failing_exit_status_is_the_rollouts_and_ours(stored: Callable[[], Any]) -> None:
    done = run("--reward-from-exit", *python("raise SystemExit(3)"))
    assert done.returncode == 3
    detail, (span, _) = stored()
    assert (detail.status, detail.failure_reason, detail.reward) == ("failed", "exit status 3", 0.0)
    assert span.attributes["process.exit.code"] == 3
    assert span.status.status_code == "ERROR"
    assert "exit status 3, no model call came through the gateway" in done.stderr


def test_quiet_says_nothing(db: Path) -> None:
    assert run("--quiet", *python("")).stderr == ""


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_signals_reach_the_program_and_what_it_makes_of_them_is_its_own_affair(
    number: int, name: str, stored: Callable[[], Any]
) -> None:
    code = f"import signal, time; signal.signal(signal.{name}, lambda *_: exit(7)); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [*LEYDEN, "run", *python(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 7
    assert stored()[0].failure_reason == "exit status 7"


def test_a_program_killed_by_a_signal_is_told_so(stored: Callable[[], Any]) -> None:
    done = run(*python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert done.returncode == 128 + signal.SIGKILL
    assert stored()[0].failure_reason == "killed by SIGKILL"


def test_a_program_that_is_not_there_is_one_line_and_no_rollout(db: Path) -> None:
    done = run("--", "no-such-program")
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr.splitlines() == ["Error: There is no program 'no-such-program' here or on the PATH"]
    assert not db.exists()


def test_a_file_that_is_no_program_is_one_line_and_a_failed_rollout(
    tmp_path: Path, stored: Callable[[], Any]
) -> None:
    path = tmp_path / "text"
    path.write_text("not a program")
    path.chmod(0o755)
    done = run("--", str(path))
    assert done.returncode == 126
    assert "cannot be started" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert stored()[0].status == "failed"


def test_a_server_that_is_away_is_one_line_and_the_program_is_not_started(tmp_path: Path, db: Path) -> None:
    mark = tmp_path / "started"
    done = run("--store", "http://127.0.0.1:9", *python(f"open({str(mark)!r}, 'w')"))
    assert done.returncode == 1
    assert "No Leyden server answers at http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert not mark.exists()


def test_a_running_server_is_used_when_it_is_named(server_url: str, db: Path) -> None:
    done = run(*python(""), LEYDEN_URL=server_url)
    assert done.returncode == 0
    with Client(server_url) as client:
        (item,) = client.list_rollouts().items
    assert item.status == "succeeded"
    assert not db.exists()


def test_a_server_that_dies_meanwhile_changes_no_exit_status(started: Callable[..., Any]) -> None:
    with started("up", "--port", "0") as server:
        code = f"import os; os.kill({server.process.pid}, 9); raise SystemExit(5)"
        done = run(*python(code), LEYDEN_URL=server.url)
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert "could not be recorded: No Leyden server answers" in done.stderr


def test_options_behind_the_program_are_the_programs(db: Path) -> None:
    done = run("--quiet", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--quiet", "--db", "x")
    assert done.stdout == "['--quiet', '--db', 'x']\n"


def test_spans_of_an_instrumented_program_land_in_its_rollout(stored: Callable[[], Any]) -> None:
    code = """
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
provider.get_tracer("x").start_span("own work").end()
"""
    assert run(*python(code)).returncode == 0
    _, spans = stored()
    assert "own work" in {span.name for span in spans}


def test_a_silent_program_is_spoken_for(client: Client) -> None:
    client.register_rollout(IDS.rollout_id, IDS.attempt_id, start_time=1.0)
    before = client.latest_attempt(IDS.rollout_id)
    with Heartbeats(client, IDS, every_s=0.001):
        while (now := client.latest_attempt(IDS.rollout_id)) == before:
            pass
    assert now is not None
    assert now.last_heartbeat_time is not None


# ── The environment ──────────────────────────────────────────────────────────────────────────────────────────────


def told(parent: Mapping[str, str], **options: Any) -> dict[str, str]:
    return environment_of(parent, IDS, url="http://127.0.0.1:4747", **options)


def test_clients_are_led_to_the_gateway_each_in_its_own_way() -> None:
    found = told({"PATH": "/bin"}, mode="val")
    base = "http://127.0.0.1:4747/rollout/ro-1/attempt/at-1/mode/val"
    assert (found["OPENAI_BASE_URL"], found["OPENAI_API_BASE"]) == (f"{base}/v1", f"{base}/v1")
    assert found["ANTHROPIC_BASE_URL"] == base
    assert "AZURE_OPENAI_ENDPOINT" not in found
    assert told({"AZURE_OPENAI_ENDPOINT": "https://x"}, mode="val")["AZURE_OPENAI_ENDPOINT"] == base
    assert found["PATH"] == "/bin"


def test_a_placeholder_stands_in_only_where_there_is_no_key() -> None:
    found = told({"OPENAI_API_KEY": "sk-mine"})
    assert (found["OPENAI_API_KEY"], found["ANTHROPIC_API_KEY"]) == ("sk-mine", "leyden-placeholder")
    assert "ANTHROPIC_API_KEY" not in told({"ANTHROPIC_AUTH_TOKEN": "t"})
    assert "ANTHROPIC_API_KEY" not in told({}, program="claude")


def test_a_server_that_asks_for_a_key_gets_its_own() -> None:
    found = told({"OPENAI_API_KEY": "sk-mine"}, key="lk_x", program="claude")
    assert (found["OPENAI_API_KEY"], found["ANTHROPIC_API_KEY"]) == ("lk_x", "lk_x")
    assert found["OTEL_EXPORTER_OTLP_HEADERS"] == "Authorization=Bearer%20lk_x"


def test_an_exporter_that_is_set_up_keeps_its_target_and_its_attributes() -> None:
    found = told({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://mine", "OTEL_RESOURCE_ATTRIBUTES": "team=a,"})
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://mine"
    assert found["OTEL_RESOURCE_ATTRIBUTES"] == (
        "team=a,agentlightning.rollout_id=ro-1,agentlightning.attempt_id=at-1"
    )
    assert found["TRACEPARENT"] == f"00-{'a' * 32}-{'b' * 16}-01"


def test_a_proxy_does_not_stand_between_the_program_and_the_gateway() -> None:
    found = told({"HTTPS_PROXY": "http://p", "http_proxy": "http://p", "NO_PROXY": "corp"})
    assert found["NO_PROXY"] == "corp,127.0.0.1,localhost,::1"
    assert found["no_proxy"] == "127.0.0.1,localhost,::1"
    assert "NO_PROXY" not in told({})
