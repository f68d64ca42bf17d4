"""What `leyden.yaml`, the environment and LiteLLM's list say, and how their faults are told."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from leyden.errors import BadInput
from leyden.gateway.config import GatewayConfig, Upstream

KEY = "sk-very-secret-1234"

WHOLE = """
secrets_file: secrets.env
upstreams:
  openai: {kind: openai, api_key: "${OPENAI_API_KEY}", headers: {x-team: "${TEAM:-none}"}}
  cloud: {kind: azure, base_url: https://res.openai.azure.com, api_version: "2024-10-21", api_key: "${AZURE}"}
  local:
    kind: vllm
    base_url: http://10.0.0.7:8000/v1
    timeouts: {connect_s: 1, first_byte_s: 60, idle_s: 20, total_s: 900}
    max_connections: 64
models:
  support:
    targets: [{upstream: local, model: qwen, weight: 3}, {upstream: cloud, model: gpt-4o, priority: 1}]
    parameters: {temperature: 0.2}
    deployment: support-agent@production
    system_template: greeting
  "claude-*": openai/gpt-4o
  "*": [{upstream: openai}]
gateway:
  record: {content: none}
  retry: {tries: 2, budget_s: 20}
  modes: {train: {temperature: 1.0}, val: {temperature: 0}}
  token_ids: on
"""


def write(folder: Path, text: str, name: str = "leyden.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def refused(folder: Path, text: str, **env: str) -> str:
    with pytest.raises(BadInput) as caught:
        GatewayConfig.from_file(write(folder, text), env)
    return caught.value.message


def secret(upstream: Upstream) -> str | None:
    return upstream.api_key and upstream.api_key.get_secret_value()


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, f'# keys\nexport AZURE="{KEY}"\n', "secrets.env")
    config = GatewayConfig.from_file(write(tmp_path, WHOLE), {"OPENAI_API_KEY": "sk-o"})
    assert secret(config.upstreams["openai"]) == "sk-o"
    assert secret(config.upstreams["cloud"]) == KEY
    assert config.upstreams["openai"].headers["x-team"].get_secret_value() == "none"
    assert config.upstreams["local"].timeouts.idle_s == 20
    assert [target.weight for target in config.models["support"].targets] == [3, 1]
    assert config.models["claude-*"].targets[0].model == "gpt-4o"
    assert config.models["*"].targets[0].model is None
    assert config.gateway.modes["train"] == {"temperature": 1.0}
    assert config.gateway.token_ids == "on"


def test_secrets_may_lie_in_yaml_and_the_environment_wins(tmp_path: Path) -> None:
    write(tmp_path, "A: from-file\nB: from-file\n", "secrets.yaml")
    text = "secrets_file: secrets.yaml\nupstreams:\n  a: {kind: openai, api_key: '${A}'}\n  b: {kind: openai, api_key: '${B}'}\n"
    config = GatewayConfig.from_file(write(tmp_path, text), {"A": "from-env"})
    assert [secret(upstream) for upstream in config.upstreams.values()] == ["from-env", "from-file"]


def test_what_the_environment_holds_is_not_filled_in_again() -> None:
    data = {
        "upstreams": {"a": {"kind": "openai", "api_key": "${A}"}, "b": {"kind": "openai", "api_key": "$${A}"}}
    }
    config = GatewayConfig.from_dict(data, {"A": "${B}"})
    assert [secret(upstream) for upstream in config.upstreams.values()] == ["${B}", "${A}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("upstreams:\n  a:\n    kind: opnai\n", "leyden.yaml line 3: upstreams.a.kind: input should be 'openai', "),
        ("upstreams:\n  a:\n    kind: vllm\n    urll: x\n", "line 4: upstreams.a.urll: there is no such key here; known are kind,"),
        ("upstreams:\n  a: {kind: azure}\n", "line 2: upstreams.a.base_url: this kind needs one"),
        ("upstreams:\n  a: {kind: vllm, base_url: 'http://me:pw@h'}\n", "line 2: upstreams.a.base_url: a name or password"),
        ("upstreams:\n  a:\n    kind: openai\n    api_key: ${NOPE}\n", "line 4: upstreams.a.api_key: ${NOPE} is neither in the environment"),
        ("upstreams:\n  a: {kind: vllm}\nmodels:\n  x:\n  - upstream: b\n", "line 5: models.x.targets.0.upstream: there is no upstream 'b'; there are a"),
        ("models:\n  x:\n    targets: openai\n", "line 3: models.x.targets: input should be a valid tuple, not 'openai'"),
        ("gateway:\n  retry:\n    tries: many\n", "line 3: gateway.retry.tries: input should be a valid integer"),
        ("gateway:\n  modes:\n    tain: {}\n", "line 3: gateway.modes.tain: input should be 'train', 'val' or 'test'"),
        ("gateway: {}\ngateway: {}\n", "gateway: this key is there twice"),
        ("upstreams:\n  a: {kind: [vllm]}\n", "line 2: upstreams.a.kind: input should be 'openai', "),
        ("upstreams:\n  a:\n", "line 2: upstreams.a: input should be a valid dictionary"),
        ("models:\n  1: openai\n", "line 2: models.1: input should be a valid string"),
        ("upstreams: 5\n", "line 1: upstreams: input should be a valid dictionary, not 5"),
        ("- upstreams\n", "holds no mapping at its top"),
        ("upstreams: [\n", "is not valid YAML"),
        ("upstreams: !!python/object/apply:os.getcwd []\n", "is not valid YAML"),
        ("secrets_file: gone.env\n", "cannot be read"),
    ],
)  # fmt: skip
def test_a_fault_names_its_line_its_key_and_what_is_allowed(tmp_path: Path, text: str, told: str) -> None:
    assert told in refused(tmp_path, text)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path, "upstreams:\n  a: {kind: opnai}\n  b: {kind: vllm, weight: 1}\n")
    assert told.splitlines()[0] == "leyden.yaml has 2 faults:"
    assert "line 2: upstreams.a.kind" in told
    assert "line 3: upstreams.b.weight" in told


@pytest.mark.parametrize(
    "upstream",
    [
        {"kind": "openai", "api_key": [KEY]},
        {"kind": "openai", "headers": {"authorization": {"x": KEY}}},
        {"kind": "openai", "headers": KEY},
        {"kind": "openai", "base_url": f"https://{KEY}@api.openai.com"},
        {"kind": "${LEAK}"},
        {"kind": "opnai", "api_key": KEY},
        {"kind": "openai", "api_key": KEY, "key": KEY},
    ],
)
def test_a_secret_is_in_no_error(upstream: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        GatewayConfig.from_dict({"upstreams": {"a": upstream}}, {"LEAK": KEY})
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    assert KEY not in refused(tmp_path, f"upstreams:\n  a: {{kind: openai, api_key: {KEY}: x\n")


def test_a_secret_is_in_no_repr() -> None:
    data = {"upstreams": {"a": {"kind": "openai", "api_key": KEY, "headers": {"x-key": KEY}}}}
    config = GatewayConfig.from_dict(data, {})
    assert KEY not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"


def test_without_any_variable_the_public_addresses_are_there_for_the_clients_own_keys() -> None:
    config = GatewayConfig.from_env({})
    assert {name: upstream.base_url for name, upstream in config.upstreams.items()} == {
        "openai": "https://api.openai.com/v1",
        "anthropic": "https://api.anthropic.com/v1",
    }
    assert {upstream.client_keys for upstream in config.upstreams.values()} == {"own"}
    assert config.models["claude-*"].targets[0].upstream == "anthropic"
    assert config.models["*"].targets[0].upstream == "openai"


def test_the_environment_of_model_clients_is_enough() -> None:
    env = {
        "OPENAI_API_KEY": "o",
        "OPENAI_BASE_URL": "http://10.0.0.1/v1",
        "ANTHROPIC_AUTH_TOKEN": "t",
        "GEMINI_API_KEY": "g",
        "AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/",
        "AZURE_OPENAI_API_KEY": "z",
        "OPENAI_API_VERSION": "2024-10-21",
        "OLLAMA_HOST": "0.0.0.0:1234",
    }
    config = GatewayConfig.from_env(env)
    assert config.upstreams["openai"].base_url == "http://10.0.0.1/v1"
    assert config.upstreams["anthropic"].auth == "bearer"
    assert config.upstreams["azure"].api_version == "2024-10-21"
    assert config.upstreams["ollama"].base_url == "http://127.0.0.1:1234/v1"
    assert config.models["gemini-*"].targets[0].upstream == "gemini"
    assert config.models["azure/*"].targets[0].model == "*"
    assert {name: secret(upstream) for name, upstream in config.upstreams.items()} == {
        "openai": "o",
        "anthropic": "t",
        "azure": "z",
        "gemini": "g",
        "ollama": None,
    }


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:11434/v1"),
        ("10.0.0.2:80", "http://10.0.0.2:80/v1"),
        ("https://ollama.example.com:443/", "https://ollama.example.com:443/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
    ],
)
def test_ollamas_address_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert GatewayConfig.from_env({"OLLAMA_HOST": host}).upstreams["ollama"].base_url == url


def test_upstreams_without_aliases_are_reached_by_name_and_by_default() -> None:
    config = GatewayConfig.from_dict({"upstreams": {"gpu": {"kind": "vllm"}}}, {})
    assert {alias: model.targets[0].upstream for alias, model in config.models.items()} == {
        "gpu/*": "gpu",
        "*": "gpu",
    }


def test_litellms_list_becomes_the_same_configuration() -> None:
    models = [
        {"model_name": "policy", "litellm_params": {"model": "hosted_vllm/Qwen/Qwen3-8B", "api_base": "http://10.0.0.1:8000/v1"}},
        {"model_name": "policy", "litellm_params": {"model": "hosted_vllm/Qwen/Qwen3-8B", "api_base": "http://10.0.0.2:8000/v1", "weight": 2}},
        {"model_name": "judge", "litellm_params": {"model": "openai/gpt-4o", "api_key": "os.environ/OPENAI_API_KEY", "temperature": 0, "drop_params": True}},
        {"model_name": "writer", "litellm_params": {"model": "anthropic/claude-sonnet-4-5"}},
    ]  # fmt: skip
    config = GatewayConfig.from_model_list(models, {"OPENAI_API_KEY": KEY})
    assert list(config.upstreams) == ["vllm", "vllm-2", "openai", "anthropic"]
    assert [(t.upstream, t.model, t.weight) for t in config.models["policy"].targets] == [
        ("vllm", "Qwen/Qwen3-8B", 1),
        ("vllm-2", "Qwen/Qwen3-8B", 2),
    ]
    assert secret(config.upstreams["openai"]) == KEY
    assert config.models["judge"].defaults == {"temperature": 0}
    assert config.models["writer"].targets[0].model == "claude-sonnet-4-5"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"model_name": "x"}, "model_list[0] lacks model_name or litellm_params.model"),
        ({"model_name": "x", "litellm_params": {"model": "nowhere/x"}}, "names the provider 'nowhere'"),
        ({"model_name": "x", "litellm_params": {"model": "openai/x", "api_key": "os.environ/NO"}}, "wants NO"),
        ({"model_name": "x", "litellm_params": {"model": "azure/x"}}, "upstreams.azure.base_url: this kind needs one"),
    ],
)  # fmt: skip
def test_a_fault_in_litellms_list_names_its_entry(entry: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as caught:
        GatewayConfig.from_model_list([entry], {})
    assert told in caught.value.message


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1/v1",
        "http://h:99999/v1",
        "http://h:abc/v1",
        "http://a..b/v1",
        f"http://{'x' * 300}/v1",
        "http://:80/v1",
    ],
)
def test_an_address_that_nobody_can_have_is_a_fault_of_the_file(tmp_path: Path, address: str) -> None:
    told = refused(tmp_path, f"upstreams: {{a: {{kind: compatible, base_url: '{address}'}}}}\n")
    assert "line 1: upstreams.a.base_url: its " in told


@pytest.mark.parametrize("value", ['"a\\nb"', '"a\\0b"'])
def test_a_header_that_cannot_be_sent_is_a_fault_of_the_file(tmp_path: Path, value: str) -> None:
    told = refused(tmp_path, f"upstreams: {{a: {{kind: openai, headers: {{x-team: {value}}}}}}}\n")
    assert told.endswith("upstreams.a.headers.x-team: holds a character that no header may hold")


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("{seed: 18446744073709551616}", "seed: cannot be written as JSON"),
        ("{seed: !!binary aGk=}", "seed: cannot be written as JSON"),
        ("{stop: !!set {a}}", "stop: cannot be written as JSON"),
        ("{stream: true}", "stream: cannot be set here: it is the client's to say"),
    ],
)
def test_parameters_that_no_request_can_have_are_a_fault_of_the_file(
    tmp_path: Path, parameters: str, why: str
) -> None:
    models = f"models: {{m: {{targets: [{{upstream: a}}], parameters: {parameters}}}}}"
    assert why in refused(tmp_path, f"upstreams: {{a: {{kind: openai}}}}\n{models}\n")
    modes = f"gateway: {{modes: {{train: {parameters}}}}}"
    assert why in refused(tmp_path, f"upstreams: {{a: {{kind: openai}}}}\n{modes}\n")


def test_a_file_that_is_no_text_is_told_so(tmp_path: Path) -> None:
    assert "is not valid YAML" in refused(tmp_path, "upstreams: \x01\x02")
