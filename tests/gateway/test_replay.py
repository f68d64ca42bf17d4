"""Every recorded call to a provider, made again through the gateway: the client sees what it would have seen without it, and the
record says what the recording implies. A scripted server plays the recorded bytes, whatever it is asked."""

import inspect
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import anthropic
import genai_prices
import openai
import pytest

from fakes.model_server import Answer, ModelServer, Request
from gateway.cassettes import Recorded, exchanges
from gateway.serving import Gateway, Raw, Wire, own_process
from gateway.test_cassettes_read import raw_calls, raw_finish, raw_usage, recounted
from leyden.types import Span

NUMBER = "x-exchange"
_CONNECTION = ("connection", "keep-alive", "transfer-encoding", "content-length")


def played(recorded: Recorded) -> Answer:
    """The recorded answer, framed as it was."""
    headers = [(name, value) for name, value in recorded.headers if name not in _CONNECTION]
    if not recorded.is_stream:
        return Answer(recorded.status, headers, (recorded.body,))
    middle = len(recorded.body) // 2
    return Answer(
        recorded.status, headers, (recorded.body[:middle], recorded.body[middle:]), framing="chunked"
    )


def play(request: Request) -> Answer:
    return played(exchanges()[int(request.headers[NUMBER])])


# One deployment has the name of a model that others are asked for.
RENAMED = {"gpt-5-nano": "azure-nano"}


class Place(NamedTuple):
    """How an exchange is made through the gateway: below its address, with which model."""

    path: str
    asked: dict[str, Any]


def place(recorded: Recorded) -> Place:
    url = urlsplit(recorded.url)
    path = f"{url.path}?{url.query}" if url.query else url.path
    if url.path.startswith("/beta/"):
        return Place("/v1/chat/completions", recorded.asked | {"model": "beta"})
    for name, ours in RENAMED.items():
        path = path.replace(f"/deployments/{name}/", f"/deployments/{ours}/")
    return Place(path, recorded.asked)


def config(server: ModelServer) -> dict[str, Any]:
    def azure(version: str) -> dict[str, Any]:
        return {"kind": "azure", "base_url": server.url, "api_version": version}

    return {
        "upstreams": {
            "openai": {"kind": "openai", "base_url": f"{server.url}/v1"},
            "anthropic": {"kind": "anthropic", "base_url": server.url},
            "deepseek": {"kind": "compatible", "base_url": f"{server.url}/beta"},
            "azure": azure("2024-02-01"),
            "azure-old": azure("2023-07-01-preview"),
        },
        "models": {
            "claude-*": "anthropic",
            "beta": "deepseek/deepseek-chat",
            "azure-nano": "azure/gpt-5-nano",
            "openllmetry-testing": "azure",
            "test-deployment": "azure-old",
            "*": "openai",
        },
        # A recorded refusal is one answer: a second try would only repeat it.
        "gateway": {"retry": {"tries": 1}},
    }


class Replayed(NamedTuple):
    """One exchange, made directly and through the gateway."""

    recorded: Recorded
    direct: Raw
    through: Raw
    span: Span
    asked: Request
    forwarded: Request


@pytest.fixture(scope="module")
def playing() -> Iterator[ModelServer]:
    with ModelServer(play) as server:
        yield server


@pytest.fixture(scope="module")
def gate(playing: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with own_process(tmp_path_factory.mktemp("replay"), config(playing)) as gate:
        yield gate


@pytest.fixture(scope="module")
def replayed(playing: ModelServer, gate: Gateway) -> list[Replayed]:
    """All of them. Each exchange is a rollout of its own."""
    return list(_replayed(playing, gate))


def _replayed(server: ModelServer, gate: Gateway) -> Iterator[Replayed]:
    before = len(server.requests)
    direct, through = Wire(server.url), Wire(gate.url)
    answers: list[tuple[Raw, Raw]] = []
    for number, recorded in enumerate(exchanges()):
        url, where = urlsplit(recorded.url), place(recorded)
        headers = {NUMBER: str(number), "accept-encoding": "gzip", "x-api-key": "sk-test"}
        plainly = direct.post(f"{url.path}?{url.query}", json.dumps(recorded.asked).encode(), headers)
        body = json.dumps(where.asked).encode()
        answers.append(
            (plainly, through.post(f"/rollout/ro-{number}/attempt/at-1{where.path}", body, headers))
        )
    gate.settled(len(answers))
    requests = server.requests[before:]
    for number, (recorded, (plainly, answer)) in enumerate(zip(exchanges(), answers, strict=True)):
        [span] = gate.client.spans(f"ro-{number}").items
        yield Replayed(recorded, plainly, answer, span, *requests[2 * number : 2 * number + 2])
    direct.close()
    through.close()


def test_every_recorded_exchange_is_replayed(replayed: list[Replayed]) -> None:
    assert Counter(one.recorded.door for one in replayed) == {
        "chat": 384, "completions": 62, "responses": 82, "embeddings": 51, "messages": 105,
    }  # fmt: skip


def test_the_client_sees_the_bytes_that_a_direct_call_shows(replayed: list[Replayed]) -> None:
    for one in replayed:
        assert one.direct.body == one.recorded.body, one.recorded.name
        assert one.through.status == one.direct.status, one.recorded.name
        assert one.through.body == one.direct.body, one.recorded.name


def test_the_client_sees_the_headers_that_a_direct_call_shows(replayed: list[Replayed]) -> None:
    values = 0
    for one in replayed:
        ours = [name for name, _ in one.through.headers if name.startswith("x-leyden-") or name == "date"]
        assert ours == ["date", "x-leyden-rollout", "x-leyden-tries", "x-leyden-upstream"]
        seen = [(name, value) for name, value in one.through.headers if name not in ours]
        expected = [(name, value) for name, value in one.direct.headers if name != "date"]
        if one.recorded.door == "messages" and one.direct.header("request-id") is None:
            # Anthropic's clients count on a name, which some recordings have lost.
            seen = [(name, value) for name, value in seen if name != "request-id"]
        assert seen == expected, one.recorded.name
        values += len(seen)
    assert values > 10_000


def test_the_upstream_sees_the_request_that_a_direct_call_sends(replayed: list[Replayed]) -> None:
    changed = Counter[str]()
    for one in replayed:
        assert (one.forwarded.path, one.forwarded.query) == (one.asked.path, one.asked.query), (
            one.recorded.name
        )
        asked, sent = one.asked.json, one.forwarded.json
        changes = {name: value for name, value in sent.items() if value != asked.get(name)}
        assert sent == asked | changes, one.recorded.name
        changed.update(f"{name}={value}" for name, value in changes.items())
    # A stream's token counts are asked for where the client did not; Azure's path names the model anew.
    assert changed == {"stream_options={'include_usage': True}": 103, "model=test-deployment": 12}


# ── The record ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_span_counts_the_tokens_that_the_recording_counts(replayed: list[Replayed]) -> None:
    counted = Counter[str]()
    for one in replayed:
        usage, said = recounted(one.recorded.door, raw_usage(one.recorded)), one.span.attributes
        buckets = {} if usage is None else usage._asdict()
        assert {name: said.get(f"leyden.usage.{name}", 0) for name in buckets} == buckets, one.recorded.name
        totals = (said.get("gen_ai.usage.input_tokens"), said.get("gen_ai.usage.output_tokens"))
        assert totals == ((None, None) if usage is None else (usage.all_input, usage.all_output))
        counted[one.recorded.door] += usage is not None
    assert counted == {"chat": 292, "completions": 43, "responses": 82, "embeddings": 45, "messages": 105}


def test_the_span_has_the_finish_reasons_and_tool_calls_of_the_recording(replayed: list[Replayed]) -> None:
    reasons, calls = 0, 0
    for one in replayed:
        said = one.span.attributes
        found = said.get("gen_ai.response.finish_reasons", [])
        assert Counter(found) == raw_finish(one.recorded), one.recorded.name
        messages = json.loads(said.get("gen_ai.output.messages", "[]"))
        parts = [part for message in messages for part in message["parts"] if part["type"] == "tool_call"]
        assert [(part["name"], part["arguments"]) for part in parts] == raw_calls(one.recorded), (
            one.recorded.name
        )
        reasons += len(found)
        calls += len(parts)
    assert (reasons, calls) == (624, 126)


def raw_id(recorded: Recorded) -> str | None:
    """The id of an answer: at the top of a body and of OpenAI's chunks, else of what the first event holds."""
    for value in recorded.objects():
        names = ("message", "response", "list", "chat.completion", "text_completion")
        is_answer = "choices" in value or value.get("type", value.get("object")) in names
        for holder in (value if is_answer else {}, value.get("message"), value.get("response")):
            if isinstance(holder, dict) and holder.get("id"):
                return holder["id"]
    return None


def test_the_span_has_the_id_and_the_status_of_the_recorded_answer(replayed: list[Replayed]) -> None:
    failed = 0
    for one in replayed:
        said = one.span.attributes
        assert said["http.response.status_code"] == one.recorded.status
        assert said["leyden.gateway.tries"] == 1
        assert said.get("gen_ai.response.id") == raw_id(one.recorded), one.recorded.name
        # Azure's content filter answers 200 with an error in the body.
        is_error = any(value.get("error") for value in one.recorded.objects())
        assert one.span.status.status_code == ("ERROR" if is_error else "OK"), one.recorded.name
        assert ("error.type" in said) == is_error
        assert said["leyden.gateway.outcome"] == ("error" if is_error else "ok")
        failed += is_error
    assert failed == 17


def raw_model(recorded: Recorded) -> str:
    """The model that answered, as the answer names it."""
    for value in recorded.objects():
        for holder in (value, value.get("message"), value.get("response")):
            if isinstance(holder, dict) and holder.get("model"):
                return holder["model"]
    return ""


def list_price(one: Replayed) -> float | None:
    """What the price list says, asked without a line of the product; None when it does not know the model."""
    usage = recounted(one.recorded.door, raw_usage(one.recorded))
    assert usage is not None
    tokens = genai_prices.Usage(
        input_tokens=usage.all_input,
        output_tokens=usage.all_output,
        cache_read_tokens=usage.cache_read or None,
        cache_write_tokens=usage.cache_write + usage.cache_write_1h or None,
        input_audio_tokens=usage.audio_input or None,
        output_audio_tokens=usage.audio_output or None,
    )
    host = urlsplit(one.recorded.url).netloc
    seller = next((name for name in ("azure", "anthropic", "deepseek") if name in host), "openai")
    is_fast = any(value.get("service_tier") == "priority" for value in one.recorded.objects())
    for model in (raw_model(one.recorded), one.recorded.asked["model"]):
        with suppress(LookupError):
            found = genai_prices.calc_price(tokens, model_ref=model, provider_id=seller).total_price
            return float(found) * (2 if is_fast else 1)
    return None


def test_the_span_has_the_cost_that_the_price_list_says(replayed: list[Replayed]) -> None:
    priced, total_usd = 0, 0.0
    for one in replayed:
        said = one.span.attributes.get("gen_ai.usage.cost")
        if raw_usage(one.recorded) is None:
            assert said is None
            continue
        assert said == pytest.approx(list_price(one)), one.recorded.name
        priced += said is not None
        total_usd += said or 0.0
    assert priced == 549
    assert 0.1 < total_usd < 10


# ── The real clients ─────────────────────────────────────────────────────────────────────────────────────────────


def sample() -> list[int]:
    """Some exchanges of every kind: door, host, streamed or not, with tools or not, succeeding or not."""
    kinds: defaultdict[Any, list[int]] = defaultdict(list)
    for number, one in enumerate(exchanges()):
        has_tools = bool(one.asked.get("tools") or one.asked.get("functions"))
        kinds[one.door, urlsplit(one.url).netloc, one.is_stream, has_tools, one.status].append(number)
    return sorted(number for numbers in kinds.values() for number in numbers[:4])


class Clients:
    """The client libraries of the providers, pointed at a server. One connection pool each: TLS is set up once."""

    def __init__(self) -> None:
        self._openai, self._anthropic = openai.DefaultHttpxClient(), anthropic.DefaultHttpxClient()

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        self._openai.close()
        self._anthropic.close()

    def made(self, recorded: Recorded, base: str, **more: Any) -> Any:
        """The client that would make this exchange, of the server at `base`; through the gateway when that is a rollout."""
        given = {"api_key": "sk-test", "max_retries": 0, **more}
        url, is_through = urlsplit(recorded.url), "/rollout/" in base
        if recorded.door == "messages":
            return anthropic.Anthropic(base_url=base, http_client=self._anthropic, **given)
        if "/deployments/" not in url.path:
            version = "beta" if "/beta/" in url.path and not is_through else "v1"
            return openai.OpenAI(base_url=f"{base}/{version}", http_client=self._openai, **given)
        deployment = url.path.split("/")[3]
        return openai.AzureOpenAI(
            azure_endpoint=base,
            azure_deployment=RENAMED.get(deployment, deployment) if is_through else deployment,
            api_version=parse_qs(url.query)["api-version"][0],
            http_client=self._openai,
            **given,
        )

    def call(self, recorded: Recorded, base: str, headers: dict[str, str]) -> Any:
        """What the library makes of an exchange: objects as JSON, or the error that it raises."""
        client = self.made(recorded, base, default_headers=headers)
        asked = place(recorded).asked if "/rollout/" in base else recorded.asked
        surface = client.chat.completions if recorded.door == "chat" else getattr(client, recorded.door)
        known = inspect.signature(surface.create).parameters
        others = {name: value for name, value in asked.items() if name not in known}
        named = {name: value for name, value in asked.items() if name in known}
        try:
            given = surface.create(**named, extra_body=others or None)
            if asked.get("stream"):
                return [event.model_dump(mode="json", warnings=False) for event in given]
            return given.model_dump(mode="json", warnings=False)
        except (openai.APIError, anthropic.APIError) as error:
            return type(error).__name__, getattr(error, "status_code", None), str(error), error.body


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of models that the recordings were made with
def test_client_libraries_read_through_the_gateway_what_they_read_without_it(
    playing: ModelServer, gate: Gateway
) -> None:
    doors, streams, errors = Counter[str](), 0, 0
    numbers = sample()
    with Clients() as clients:
        for number in numbers:
            recorded, headers = exchanges()[number], {NUMBER: str(number)}
            directly = clients.call(recorded, playing.url, headers)
            through = f"{gate.url}/rollout/ro-client-{number}/attempt/at-1"
            assert clients.call(recorded, through, headers) == directly, recorded.name
            doors[recorded.door] += 1
            streams += isinstance(directly, list)
            errors += isinstance(directly, tuple)
    assert doors == {"chat": 39, "completions": 13, "embeddings": 16, "messages": 16, "responses": 16}
    assert (len(numbers), streams, errors) == (100, 36, 12)
    for number in numbers:
        said = replace(gate, rollout=f"ro-client-{number}").span()
        assert said.get("gen_ai.response.id") == raw_id(exchanges()[number])
        assert said["user_agent.original"].startswith(("OpenAI/", "AzureOpenAI/", "Anthropic/"))
