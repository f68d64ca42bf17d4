"""`leyden.yaml`: which upstreams there are, what the names of models mean, how calls are retried and recorded.

Promises: an unknown key, a value that is not allowed or a variable that nobody set is one BadInput which names file, line, key and
what is allowed; a secret shows in no repr, log line or error. Refuses to know: HTTP, and which call goes where.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from leyden.gateway import config_file, environment, model_list
from leyden.gateway.call import Door, Family
from leyden.gateway.config_file import Fault, Source, Where
from leyden.gateway.kinds import TRAITS, Auth, Kind, auth_of, doors_of
from leyden.types import Mode

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# Keys of a request that no configuration sets.
_OF_THE_CLIENT = ("model", "stream", "messages", "input", "prompt")


def _sendable_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise PydanticCustomError("header", "holds a character that no header may hold", {"key": name})
    return headers


def _sendable_parameters(parameters: Any) -> Any:
    """What is set in requests has to be JSON, and to leave alone what makes a request the client's own."""
    if not isinstance(parameters, dict):
        return parameters
    for name in cast(dict[Any, Any], parameters):
        if name in _OF_THE_CLIENT:
            raise PydanticCustomError(
                "parameter", "cannot be set here: it is the client's to say", {"key": name}
            )
        try:
            orjson.dumps({name: parameters[name]})
        except TypeError:
            raise PydanticCustomError("parameter", "cannot be written as JSON", {"key": str(name)}) from None
    return cast(Any, parameters)


Parameters = Annotated[dict[str, Any], BeforeValidator(_sendable_parameters)]


class _Part(BaseModel):
    """A part of the file: immutable, and it refuses keys that it does not have."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _no_other_keys(cls, data: Any) -> Any:
        given: dict[Any, Any] = cast(dict[Any, Any], data) if isinstance(data, dict) else dict[str, Any]()
        unknown = [str(key) for key in given if key not in cls.model_fields]
        if unknown:
            context = {"key": unknown[0], "known": ", ".join(cls.model_fields)}
            raise PydanticCustomError("unknown_key", "there is no such key here; known are {known}", context)
        return cast(Any, data)


class Timeouts(_Part):
    """How long a call may wait for an upstream, seconds.

    connect_s: for a new connection, TLS included. first_byte_s: from sending the request to the first byte of the answer's body; a long
    think without streaming is one long wait for the first byte. idle_s: between two pieces of an answer, counted only while we
    are ready to take one. total_s: for the whole call.
    """

    connect_s: Seconds = 10.0
    first_byte_s: Seconds = 600.0
    idle_s: Seconds = 300.0
    total_s: Seconds = 3600.0


class Upstream(_Part):
    """A model server.

    kind: what it is; the rest has a default for each kind but azure, bedrock, vertex and compatible, which need a base_url.
    base_url: up to and with the version ("https://api.openai.com/v1"); for azure the resource's ("https://NAME.openai.azure.com").
    api_key: sent with every call; none sends the key that the client brought. auth: the header that carries it.
    api_version: azure only. A date calls the deployment in the URL; without one the v1 surface is used, where `model` names it.
    headers: set on every call, over what the client sent; values are treated as secrets.
    family: the protocol it speaks best. doors: the surfaces it serves itself; calls of others are translated into its family.
    timeouts: see there. max_connections: calls at once (over HTTP/1.1 each has a connection); more of them wait.
    client_keys: what becomes of the key that a client brings when none is configured. "own" sends on those of clients that speak the
    upstream's protocol, whose keys they are; "forward" everybody's; "drop" none (the default for vllm, sglang and ollama). price_provider: whose price list applies, as genai-prices calls it; by default that of its kind (vllm, sglang and
    ollama have none), and for compatible it is told from the model's name.
    """

    kind: Kind
    base_url: str = ""
    api_key: SecretStr | None = None
    auth: Auth = "bearer"
    api_version: str | None = None
    headers: Annotated[dict[str, SecretStr], AfterValidator(_sendable_headers)] = Field(
        default_factory=dict[str, SecretStr]
    )
    family: Family = "openai"
    doors: frozenset[Door] = frozenset()
    timeouts: Timeouts = Timeouts()
    max_connections: Annotated[int, Field(ge=1)] = 4096
    client_keys: Literal["own", "forward", "drop"] = "own"
    price_provider: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_kind(cls, data: Any) -> Any:
        written: dict[str, Any] = cast(dict[str, Any], data if isinstance(data, dict) else {})
        kind = written.get("kind")
        if not isinstance(kind, str) or kind not in TRAITS:
            return cast(Any, data)
        # What is left empty, as "${NAME:-}" may be, is as good as not written.
        given = {key: value for key, value in written.items() if value not in (None, "")}
        trait = TRAITS[kind]
        family: Any = given.get("family", trait.family)
        defaults = {
            "base_url": trait.base_url or "",
            "family": family,
            "auth": auth_of(kind, family),
            "doors": doors_of(kind, family),
            "client_keys": "own" if trait.takes_client_keys else "drop",
        }
        return defaults | given

    @model_validator(mode="after")
    def _has_a_usable_address(self) -> "Upstream":
        fault = _fault_of_url(self.base_url)
        if fault:
            raise PydanticCustomError("address", "{fault}", {"key": "base_url", "fault": fault})
        if self.api_version and self.kind != "azure":
            raise PydanticCustomError("address", "only azure has one", {"key": "api_version"})
        return self


def _fault_of_url(url: str) -> str | None:
    if not url:
        return "this kind needs one, such as https://models.example.com/v1"
    found = re.fullmatch(r"https?://([^/?#\s]+)(/[^?#\s]*)?", url)
    if not found:
        return "not the address of an API: http:// or https://, a host and a path, without ? and #"
    if "@" in found[1]:
        return "a name or password in an address ends up in logs; use api_key or headers"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "its host is in no valid form, or its port is no number up to 65535"
    labels = host.removesuffix(".").split(".")
    if not host or (
        ":" not in host and (len(host) > 253 or not all(0 < len(label) < 64 for label in labels))
    ):
        return "its host is no name that a host can have"
    return None


class ModelTarget(_Part):
    """One place where calls of an alias can go.

    model: the name the upstream knows; None passes on what was asked for, and "*" stands for what the alias's own "*" matched.
    weight: share of the calls among targets of equal priority; 0 takes calls only when the others cannot. priority: lowest first.
    """

    upstream: str
    model: str | None = None
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    priority: int = 0


class Model(_Part):
    """What an alias means. In the file it may also be a list of targets, or one target as "UPSTREAM/MODEL" or "UPSTREAM".

    targets: where its calls go. parameters: set in every request, over what was asked. defaults: set where the request says nothing.
    deployment: the named deployment ("support-agent@production") whose release says what the agent runs with.
    system_template: the prompt of that deployment that becomes the system message.
    """

    targets: Annotated[tuple[ModelTarget, ...], Field(min_length=1)]
    parameters: Parameters = Field(default_factory=dict[str, Any])
    defaults: Parameters = Field(default_factory=dict[str, Any])
    deployment: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    system_template: str | None = None


def _spelled_out(value: Any) -> Any:
    """The short forms of an alias in the long one."""
    if isinstance(value, str):
        upstream, slash, model = value.partition("/")
        return {"targets": [{"upstream": upstream, "model": model if slash else None}]}
    return {"targets": cast(Any, value)} if isinstance(value, list) else value


def _on_or_off(value: Any) -> Any:
    """YAML reads a bare `on` and `off` as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Record(_Part):
    """content: whether messages are kept, or only what they cost and how long they took. max_bytes: of what is kept of one body; longer ones
    are cut, and their tokens counted all the same. strict: refuse calls that cannot be recorded, instead of letting them through and
    counting the loss."""

    content: Literal["full", "none"] = "full"
    max_bytes: Annotated[int, Field(ge=0)] = 16 * 2**20
    strict: bool = False


class Retry(_Part):
    """How a failed call is asked again, always before the client saw a byte.

    tries: at each target. base_s and max_s: the pause before a second try and the longest one; it doubles, and
    between half and all of it is waited. budget_s: no new try begins later than this after the first; a longer Retry-After moves on to the next target.
    """

    tries: Annotated[int, Field(ge=1, le=20)] = 3
    base_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.2
    max_s: Seconds = 8.0
    budget_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0


class HealthRules(_Part):
    """When an upstream is left alone. failures: this many in a row; or a share of failed calls in window_s, of at least min_calls.
    eject_s: for how long the first time; it doubles each time a probe fails, up to max_eject_s."""

    failures: Annotated[int, Field(ge=1)] = 5
    error_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    window_s: Seconds = 30.0
    min_calls: Annotated[int, Field(ge=1)] = 20
    eject_s: Seconds = 5.0
    max_eject_s: Seconds = 300.0


class Hold(_Part):
    """While the gateway is paused, up to `limit` requests wait up to `seconds`; the rest is answered 429 with Retry-After."""

    limit: Annotated[int, Field(ge=0)] = 1024
    seconds: Seconds = 600.0


class Gateway(_Part):
    """How calls are handled, whichever upstream they go to.

    sticky: calls of one rollout keep going to one target, whose prefix cache knows them. modes: parameters forced on calls of rollouts
    in that mode. token_ids: ask for token ids and logprobs: where the upstream can, always, or never.
    """

    record: Record = Record()
    retry: Retry = Retry()
    health: HealthRules = HealthRules()
    sticky: bool = True
    hold: Hold = Hold()
    modes: dict[Mode, Parameters] = Field(default_factory=dict[Mode, dict[str, Any]])
    token_ids: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = "auto"


class GatewayConfig(_Part):
    """The whole file.

    upstreams: by name; without any, those of the environment. models: by alias, where "*" stands for anything; without any, each
    upstream is reached as NAME/MODEL, and names of models go where they are at home. secrets_file: where `${NAME}` is looked
    up after the environment, relative to this file: a flat YAML mapping, or lines NAME=VALUE.
    """

    upstreams: dict[Name, Upstream]
    models: dict[str, Annotated[Model, BeforeValidator(_spelled_out)]]
    gateway: Gateway = Gateway()
    secrets_file: str | None = None

    @classmethod
    def from_file(cls, path: Path, env: Mapping[str, str] | None = None) -> "GatewayConfig":
        """Read `leyden.yaml`. Raises BadInput that names line, key and what is allowed."""
        return _judged(config_file.read(path), env)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], env: Mapping[str, str] | None = None, *, name: str = "the configuration"
    ) -> "GatewayConfig":
        """The same from data of that shape; `${NAME}` is filled in as in a file. Raises BadInput."""
        return _judged(Source(name, dict(data)), env)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "GatewayConfig":
        """No file at all: what the environment of model clients says (OPENAI_API_KEY, ANTHROPIC_BASE_URL, OLLAMA_HOST, …)."""
        return cls.from_dict({}, env, name="the environment")

    @classmethod
    def from_model_list(
        cls, models: Sequence[Mapping[str, Any]], env: Mapping[str, str] | None = None
    ) -> "GatewayConfig":
        """LiteLLM's `model_list`, as Agent Lightning's LLMProxy takes it. Raises BadInput."""
        source = Source("model_list", model_list.as_config(models, os.environ if env is None else env))
        return _validated(source, source.data)


def _judged(source: Source, env: Mapping[str, str] | None) -> GatewayConfig:
    env = os.environ if env is None else env
    faults: list[Fault] = []
    data = config_file.filled(source.data, config_file.lookup(source, env), faults=faults)
    if faults:
        raise source.refuse(faults)
    # After filling in: what the environment holds is a value, and never looked at for ${…} itself.
    upstreams: Any = data.get("upstreams") or environment.upstreams(env)
    usual = environment.default_models(cast(dict[str, Any], upstreams)) if isinstance(upstreams, dict) else {}
    data |= {"upstreams": upstreams, "models": data.get("models") or usual}
    return _validated(source, data)


def _validated(source: Source, data: Any) -> GatewayConfig:
    try:
        config = GatewayConfig.model_validate(data)
    except ValidationError as error:
        # `from None`: a traceback of pydantic's error would show the values, among them keys.
        raise source.refuse([_fault(source, each) for each in error.errors(include_url=False)]) from None
    faults = [
        Fault(("models", alias, "targets", i, "upstream"), _no_upstream(target.upstream, config))
        for alias, model in config.models.items()
        for i, target in enumerate(model.targets)
        if target.upstream not in config.upstreams
    ]
    if faults:
        raise source.refuse(faults)
    return config


def _no_upstream(name: str, config: GatewayConfig) -> str:
    return f"there is no upstream {name!r}; there are {', '.join(config.upstreams)}"


def _fault(source: Source, error: ErrorDetails) -> Fault:
    """What pydantic found, at the key where it was written."""
    where: Where = tuple(step for step in error["loc"] if step != "[key]")
    context = error.get("ctx", {})
    if "key" in context:
        where = (*where, str(context["key"]))
    text = error["msg"][0].lower() + error["msg"][1:]
    return Fault(where, text + _instead(source.data, where) if error["type"] != "unknown_key" else text)


def _instead(data: Any, where: Where) -> str:
    """What was written, when that is short and no secret; read before `${NAME}` was filled in."""
    if {"api_key", "headers", "base_url"} & set(where):
        return ""
    for step in where:
        data = cast(dict[Any, Any], data).get(step) if isinstance(data, dict) else None
    return f", not {data!r}" if isinstance(data, str | int | float) and len(str(data)) <= 40 else ""
