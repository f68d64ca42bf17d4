"""The agent of the demo: a loop between an OpenAI-compatible model and the tools of the front desk, traced by the SDK.

Owns: the seed prompt, the conversation, the HTTP call (plain or streamed). Promises: tools that refuse are told to the
model, never hidden; a request that ends with nothing done is a failed rollout. Works the same with tracing turned off.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import httpx

import leyden
from leyden.demo.desk import Desk
from leyden.demo.rules import check
from leyden.demo.tools import TOOLS, ToolError
from leyden.demo.world import OFFICE, Task
from leyden.errors import BadInput, LeydenError

Json = dict[str, Any]
Chat = Callable[[Json], Json]
"""Sends the body of one chat completion request and returns the whole answer, both in OpenAI's form."""

AGENT = "front-desk"
PROMPT_RESOURCE = "front_desk_prompt"

# The prompt the demo starts from. It keeps most of the house rules to itself, so there is something to improve.
SEED_PROMPT = """\
You are the front desk of {office}. You book meeting rooms for colleagues.
Search the rooms, look at the calendar of those that could do, book one, and answer in a sentence.

House rules:
- The room has every piece of equipment that was asked for.
- If somebody uses a wheelchair, the room is step-free.
- Of the rooms that will do, take the smallest.
- Send the organiser one confirmation of what was arranged.
"""


class ModelError(LeydenError):
    """The model endpoint refused, or answered with something that is not a chat completion."""

    code = "model_error"
    status = 502


class NotHandled(Exception):
    """The conversation ended and nothing was done about the request."""


class Handled(NamedTuple):
    """How a request went. `broken` names the house rules that were broken, `failure` says why the rollout failed."""

    rollout_id: str
    reward: float
    broken: tuple[str, ...] = ()
    failure: ModelError | NotHandled | None = None


@dataclass(frozen=True)
class Agent:
    """A front desk: a model to talk to, and what it is told.

    prompt: a template with `{office}`. seed: goes to the model with each call, so a repeat can differ. resources_id: the
    bundle the prompt came from, noted on every rollout. max_turns: model calls per request before the agent gives up.
    """

    chat: Chat
    model: str
    prompt: str = SEED_PROMPT
    tools: list[Json] = field(default_factory=lambda: TOOLS)
    seed: int = 0
    resources_id: str | None = None
    max_turns: int = 30

    def handle(self, task: Task) -> Handled:
        """Serve one request as one rollout, and reward it. A request that fails is a failed rollout, not an exception."""
        given = {"task": task.task_id, "request": task.request}
        rollout = leyden.rollout(given, mode="train", resources_id=self.resources_id)
        desk = Desk(task)
        try:
            with rollout:
                with leyden.trace.agent(AGENT) as span:
                    span.set_input(task.request)
                    span.set_output(self.converse(desk))
                verdict = check(desk)
                leyden.reward(verdict.reward)
                if not desk.booked and not desk.waiting:
                    raise NotHandled(
                        "the conversation ended with no booking and no place on the waiting list"
                    )
        except (ModelError, NotHandled) as failure:
            return Handled(rollout.rollout_id, 0.0, failure=failure)
        return Handled(rollout.rollout_id, verdict.reward, verdict.broken)

    def converse(self, desk: Desk) -> str:
        """Let the model and the tools talk until the model stops calling tools; returns its last sentence."""
        messages: list[Json] = [
            {"role": "system", "content": render(self.prompt)},
            {"role": "user", "content": desk.task.request},
        ]
        for _ in range(self.max_turns):
            answer = self._ask(messages)
            messages.append(answer)
            calls = cast(list[Json], answer.get("tool_calls") or [])
            if not calls:
                return str(answer.get("content") or "")
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": _use(desk, call)} for call in calls
            ]
        return ""

    def _ask(self, messages: list[Json]) -> Json:
        body = {"model": self.model, "messages": messages, "tools": self.tools, "seed": self.seed}
        with leyden.trace.llm(self.model, provider="openai") as span:
            span.set_input(messages)
            answer = self.chat(body)
            span.set_output(answer)
        return answer["choices"][0]["message"]


def _use(desk: Desk, call: Json) -> str:
    """What the model reads after a tool call: the result, or why there is none."""
    name, text = str(call["function"]["name"]), call["function"]["arguments"]
    try:
        with leyden.trace.tool(name) as span:
            arguments = _arguments(name, text)
            span.set_input(arguments)
            result = desk.call(name, arguments)
            span.set_output(result)
    except ToolError as error:
        return json.dumps({"error": str(error)})
    return json.dumps(result)


def _arguments(name: str, text: str) -> Json:
    try:
        arguments: object = json.loads(text or "{}")
    except ValueError:
        raise ToolError(f"the arguments of {name} are not JSON") from None
    if not isinstance(arguments, dict):
        raise ToolError(f"the arguments of {name} must be a JSON object")
    return cast(Json, arguments)


def render(template: str) -> str:
    """The prompt with its placeholders filled. Raises BadInput for a placeholder nobody fills."""
    try:
        return template.format(office=OFFICE)
    except (KeyError, IndexError, ValueError) as error:
        raise BadInput(
            f"the prompt template does not render: {error!r}", hint="its one placeholder is {office}"
        ) from None


# ── Talking to the model ─────────────────────────────────────────────────────────────────────────────────────────


_OVERLOADED = frozenset({429, 500, 502, 503, 504, 529})


def chat_over_http(
    client: httpx.Client,
    *,
    base_url: str,
    api_key: str = "",
    stream: bool = False,
    pauses_s: tuple[float, ...] = (1.0, 2.0, 4.0),
) -> Chat:
    """A Chat over `{base_url}/chat/completions`. base_url ends in /v1, as OPENAI_BASE_URL does.

    A model that is overloaded is asked again after each of `pauses_s`; then the Chat raises ModelError, as it does at
    once for any other refusal.
    """
    url, headers = (
        f"{base_url.rstrip('/')}/chat/completions",
        {"Authorization": f"Bearer {api_key or 'none'}"},
    )

    def plain(body: Json) -> Json:
        response = client.post(url, json=body, headers=headers)
        response.raise_for_status()
        return response.json()

    def streamed(body: Json) -> Json:
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with client.stream("POST", url, json=asked, headers=headers) as response:
            if response.is_error:
                response.read()
            response.raise_for_status()
            return join_chunks(_events(response.iter_lines()))

    def once(body: Json) -> Json:
        try:
            answer = cast(object, (streamed if stream else plain)(body))
        except ValueError as error:
            raise ModelError(f"the model at {base_url} answered something that is not JSON") from error
        if not isinstance(answer, dict) or not cast(Json, answer).get("choices"):
            raise ModelError(f"the model at {base_url} answered without a choice")
        return cast(Json, answer)

    def chat(body: Json) -> Json:
        for pause_s in (*pauses_s, None):
            try:
                return once(body)
            except httpx.HTTPStatusError as error:
                if pause_s is None or error.response.status_code not in _OVERLOADED:
                    raise _refusal(error.response) from error
                time.sleep(pause_s)
            except httpx.HTTPError as error:
                raise ModelError(
                    f"no answer from the model at {base_url}: {error or type(error).__name__}"
                ) from error
        raise AssertionError("the last pass returns or raises")

    return chat


def _refusal(response: httpx.Response) -> ModelError:
    return ModelError(f"the model at {response.url} answered {response.status_code}: {response.text[:300]}")


def _events(lines: Iterator[str]) -> Iterator[Json]:
    for line in lines:
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data != "[DONE]":
            yield json.loads(data)


def join_chunks(chunks: Iterator[Json]) -> Json:
    """The whole answer from the chunks of a stream: text joined, tool calls put together by their index."""
    answer: Json = {}
    message: Json = {"role": "assistant", "content": None}
    calls: dict[int, Json] = {}
    for chunk in chunks:
        answer |= {key: chunk[key] for key in ("id", "model", "created", "usage") if chunk.get(key)}
        for choice in cast(list[Json], chunk.get("choices") or []):
            delta = cast(Json, choice.get("delta") or {})
            if delta.get("content"):
                message["content"] = (message["content"] or "") + delta["content"]
            for part in cast(list[Json], delta.get("tool_calls") or []):
                _join_call(calls, part)
            if choice.get("finish_reason"):
                answer["choices"] = [
                    {"index": 0, "message": message, "finish_reason": choice["finish_reason"]}
                ]
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return {"object": "chat.completion", **answer}


def _join_call(calls: dict[int, Json], part: Json) -> None:
    call = calls.setdefault(
        part["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    )
    function = cast(Json, part.get("function") or {})
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""
