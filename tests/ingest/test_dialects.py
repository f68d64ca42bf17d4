"""Each dialect on attributes as its instrumentation writes them."""

import json

import pytest

from leyden.ingest.derive import EventView, derive, failed_answer
from leyden.ingest.dialects import DIALECTS


def columns(attributes, *, name="span", status="unset", message="", events=()):
    return derive(
        attributes,
        name=name,
        status=status,
        message=message,
        events=lambda: [EventView(event, held.get) for event, held in events],
    )


def check(found, **expected):
    assert {key: getattr(found, key) for key in expected} == expected


MESSAGES = json.dumps(
    [
        {"role": "system", "parts": [{"type": "text", "content": "be kind"}]},
        {"role": "user", "parts": [{"type": "text", "content": 'find "it"'}]},
    ]
)


def test_genai_model_call():
    found = columns(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "azure",
            "gen_ai.request.model": "gpt-4.1",
            "gen_ai.response.model": "gpt-4.1-2025-04-14",
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 30,
            "gen_ai.usage.cache_read.input_tokens": 100,
            "gen_ai.usage.cache_creation.input_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 8,
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.conversation.id": "c1",
            "gen_ai.input.messages": MESSAGES,
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"tool_call","name":"f","arguments":{"a":1}}]}]',
        },
        name="chat gpt-4.1",
    )
    check(
        found,
        kind="llm",
        dialect="genai",
        provider="azure.ai.openai",
        model="gpt-4.1-2025-04-14",
        input_tokens=120,
        output_tokens=30,
        cache_read_tokens=100,
        cache_write_tokens=5,
        reasoning_tokens=8,
        ttft_ms=250.0,
        session="c1",
        input_preview='find "it"',
        fingerprint=None,
    )


def test_genai_tool_call_that_failed():
    found = columns(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.arguments": '{"q":"x"}',
            "error.type": "TimeoutError",
        },
        status="error",
        message="took too long",
    )
    check(
        found,
        kind="tool",
        tool="search",
        error_type="TimeoutError",
        error_message="took too long",
        input_preview='{"q":"x"}',
    )
    assert found.fingerprint
    assert found.call_hash


def test_genai_names_come_from_the_span_when_no_attribute_has_them():
    check(
        columns({"gen_ai.operation.name": "execute_tool"}, name="execute_tool lookup"),
        kind="tool",
        tool="lookup",
    )
    check(
        columns({"gen_ai.operation.name": "invoke_agent"}, name="invoke_agent planner"),
        kind="agent",
        agent="planner",
    )


def test_a_tool_call_without_captured_arguments_has_no_call_hash():
    assert columns({"gen_ai.tool.name": "f"}).call_hash is None
    assert columns({"gen_ai.tool.name": "f", "gen_ai.tool.call.arguments": "<REDACTED>"}).call_hash is None


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("embeddings", "embedding"),
        ("retrieval", "retriever"),
        ("invoke_workflow", "chain"),
        ("create_agent", "agent"),
    ],
)
def test_genai_operations_decide_the_kind(operation, kind):
    assert columns({"gen_ai.operation.name": operation}).kind == kind


def test_genai_messages_in_legacy_events():
    found = columns(
        {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 3},
        events=[
            ("gen_ai.system.message", {"content": "be kind"}),
            ("gen_ai.user.message", {"content": "hello"}),
            ("gen_ai.choice", {"message": '{"role":"assistant","content":"hi"}'}),
        ],
    )
    check(found, kind="llm", input_preview="hello", output_preview="hi")


def test_genai_evaluations_become_scores():
    found = columns(
        {"gen_ai.operation.name": "chat"},
        events=[
            (
                "gen_ai.evaluation.result",
                {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.8},
            ),
            (
                "gen_ai.evaluation.result",
                {"gen_ai.evaluation.name": "nan", "gen_ai.evaluation.score.value": float("nan")},
            ),
        ],
    )
    assert found.scores == (("relevance", 0.8),)


def test_openinference_model_call():
    found = columns(
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "claude-3-5-sonnet",
            "llm.provider": "anthropic",
            "llm.token_count.prompt": 50,
            "llm.token_count.completion": 7,
            "llm.token_count.prompt_details.cache_read": 20,
            "llm.cost.total": 0.01,
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "be kind",
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.contents.0.message_content.text": "hello",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "search",
            "session.id": "s",
            "gen_ai.operation.name": "invoke_agent",
        }
    )
    check(
        found,
        kind="llm",
        dialect="openinference",
        model="claude-3-5-sonnet",
        provider="anthropic",
        input_tokens=50,
        output_tokens=7,
        cache_read_tokens=20,
        cost_usd=0.01,
        session="s",
        input_preview="hello",
        output_preview="search",
    )


def test_openinference_tool_whose_message_names_the_error_class():
    message = "TypeError: PageDownTool.forward() got an unexpected keyword argument ''"
    attributes = {
        "openinference.span.kind": "TOOL",
        "tool.name": "page_down",
        "input.value": '{"kwargs": {"": ""}}',
    }
    found = columns(attributes, name="PageDownTool", status="error", message=message)
    check(
        found,
        kind="tool",
        tool="page_down",
        error_type="TypeError",
        error_message="PageDownTool.forward() got an unexpected keyword argument ''",
    )
    recorded = {
        "exception.type": "TypeError",
        "exception.message": message.removeprefix("TypeError: ").replace("''", "'page_down'"),
    }
    other = columns(
        attributes, name="PageDownTool", status="error", message="x", events=[("exception", recorded)]
    )
    assert other.fingerprint == found.fingerprint


def test_openinference_agents_tokens_are_left_to_its_calls():
    found = columns({"openinference.span.kind": "AGENT", "agent.name": "a", "llm.token_count.prompt": 500})
    check(found, kind="agent", agent="a", input_tokens=None)


def test_openllmetry_entities_and_indexed_messages():
    call = columns(
        {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 11,
            "gen_ai.usage.completion_tokens": 2,
            **{f"gen_ai.prompt.{n}.role": "user" for n in range(37)},
            **{f"gen_ai.prompt.{n}.content": f"message {n}" for n in range(37)},
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "done",
            "traceloop.association.properties.session_id": "s1",
        }
    )
    check(
        call,
        kind="llm",
        dialect="openllmetry",
        provider="openai",
        input_tokens=11,
        output_tokens=2,
        input_preview="message 36",
        output_preview="done",
        session="s1",
    )
    tool = columns(
        {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "search",
            "traceloop.entity.input": '{"q":1}',
        }
    )
    check(tool, kind="tool", tool="search", agent=None, input_preview='{"q":1}')
    agent = columns({"traceloop.span.kind": "agent", "traceloop.entity.name": "planner"})
    check(agent, kind="agent", agent="planner", tool=None)


def test_agentops_kinds_and_entities():
    check(
        columns(
            {
                "agentops.span.kind": "tool",
                "tool.name": "add",
                "tool.parameters": '{"a": 1}',
                "tool.result": "Error: no such user",
            }
        ),
        kind="tool",
        dialect="agentops",
        tool="add",
        error_type="tool_error",
        error_message="Error: no such user",
    )
    check(
        columns(
            {
                "agentops.span.kind": "llm",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.prompt_tokens": 4,
                "gen_ai.streaming.time_to_first_token": 0.5,
                "gen_ai.prompt.0.role": "user",
                "gen_ai.prompt.0.content": "hi",
            }
        ),
        kind="llm",
        input_tokens=4,
        ttft_ms=500.0,
        input_preview="hi",
    )


def test_agent_lightning_rewards_become_scores_with_the_primary_first():
    found = columns(
        {
            "agentlightning.reward.0.name": "primary",
            "agentlightning.reward.0.value": 1,
            "agentlightning.reward.1.name": "style",
            "agentlightning.reward.1.value": "0.5",
            "agentlightning.reward.2.value": float("inf"),
        },
        name="agentlightning.annotation",
    )
    check(found, kind="reward", dialect="agent_lightning", scores=(("primary", 1.0), ("style", 0.5)))


def test_agent_lightnings_older_rewards_count_too():
    check(
        columns({"reward": True}, name="agentlightning.annotation"), kind="reward", scores=(("primary", 1.0),)
    )
    check(
        columns({"agentops.span.kind": "task", "agentops.task.output": '{"type": "reward", "value": 0.25}'}),
        kind="reward",
        scores=(("primary", 0.25),),
    )
    check(
        columns({"agentops.entity.output": '{"type": "reward", "value": null}'}, name="reward"),
        scores=(),
    )


def test_agent_lightning_exceptions_fail_although_their_status_is_ok():
    found = columns(
        {"exception.type": "ValueError", "exception.message": "bad"},
        name="agentlightning.exception",
        status="ok",
    )
    check(found, kind="span", error_type="ValueError", error_message="bad")
    assert found.fingerprint


def test_vercel_prices_only_the_inner_call():
    usage = {"ai.usage.inputTokens": 10, "ai.usage.outputTokens": 3, "ai.usage.cachedInputTokens": 4}
    outer = columns(
        {"ai.operationId": "ai.generateText", "ai.telemetry.functionId": "bot", **usage},
        name="ai.generateText bot",
    )
    check(outer, kind="agent", dialect="vercel", agent="bot", input_tokens=None)
    inner = columns(
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.provider": "openai.chat",
            "ai.model.id": "gpt-4o",
            "ai.response.msToFirstChunk": 80,
            "ai.prompt.messages": '[{"role":"user","content":[{"type":"text","text":"hello"}]}]',
            "ai.response.text": "hi",
            **usage,
        }
    )
    check(
        inner,
        kind="llm",
        provider="openai",
        model="gpt-4o",
        input_tokens=10,
        output_tokens=3,
        cache_read_tokens=4,
        ttft_ms=80.0,
        input_preview="hello",
        output_preview="hi",
    )
    tool = columns(
        {
            "ai.operationId": "ai.toolCall",
            "ai.toolCall.name": "f",
            "ai.toolCall.args": '{"x":1}',
            "ai.toolCall.result": '{"error":"no"}',
        }
    )
    check(tool, kind="tool", tool="f", error_type="tool_error", error_message="no")


def test_claude_codes_input_excludes_the_cache_and_the_column_includes_it():
    found = columns(
        {
            "span.type": "llm_request",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-opus",
            "input_tokens": 1000,
            "output_tokens": 40,
            "cache_read_tokens": 200,
            "cache_creation_tokens": 30,
            "ttft_ms": 34,
        },
        name="claude_code.llm_request",
    )
    check(
        found,
        kind="llm",
        dialect="claude_code",
        agent="claude-code",
        input_tokens=1230,
        cache_read_tokens=200,
        cache_write_tokens=30,
        ttft_ms=34.0,
    )


def test_claude_code_counts_a_tool_call_once_and_keeps_the_failure_of_its_execution():
    call = columns(
        {"span.type": "tool", "gen_ai.tool.name": "Bash", "full_command": "ls"}, name="claude_code.tool"
    )
    check(call, kind="tool", tool="Bash", input_preview="ls", fingerprint=None)
    part = columns(
        {"span.type": "tool.execution", "error.type": "tool_error", "error": "Shell command failed"},
        name="claude_code.tool.execution",
        status="error",
        message="Shell command failed",
    )
    check(part, kind="span", error_type="tool_error", error_message="Shell command failed")
    sub = columns(
        {"span.type": "llm_request", "agent_id": "a1", "query_source_safe": "agent.builtin.general-purpose"},
        name="claude_code.llm_request",
    )
    assert sub.agent == "general-purpose"


def test_logfire_spans_of_pydantic_ai():
    run = columns(
        {
            "logfire.msg": "agent run",
            "agent_name": "bot",
            "model_name": "gpt-4o",
            "final_result": "42",
            "pydantic_ai.all_messages": MESSAGES,
        },
        name="agent run",
    )
    check(
        run,
        kind="agent",
        dialect="logfire",
        agent="bot",
        model="gpt-4o",
        output_preview="42",
        input_preview='find "it"',
    )
    tool = columns(
        {
            "logfire.msg": "running tool: f",
            "gen_ai.tool.name": "f",
            "tool_arguments": '{"x":1}',
            "tool_response": "ok",
        },
        name="running tool",
    )
    check(tool, kind="tool", tool="f", input_preview='{"x":1}', output_preview="ok")
    pending = columns(
        {
            "logfire.msg": "chat",
            "logfire.span_type": "pending_span",
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 5,
        }
    )
    check(pending, kind="span", input_tokens=None)


def test_langfuse_usage_counts_are_disjoint_and_the_column_is_their_sum():
    found = columns(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.observation.usage_details": '{"input": 10, "input_cached_tokens": 90, "output": 5, "total": 105}',
            "langfuse.observation.cost_details": '{"total": 0.5}',
            "langfuse.session.id": "s",
            "langfuse.observation.input": '[{"role":"user","content":"hello"}]',
            "langfuse.observation.output": "hi",
        }
    )
    check(
        found,
        kind="llm",
        dialect="langfuse",
        model="gpt-4o",
        input_tokens=100,
        output_tokens=5,
        cache_read_tokens=90,
        cost_usd=0.5,
        session="s",
        input_preview="hello",
        output_preview="hi",
    )


def test_mlflow_values_are_json_texts():
    found = columns(
        {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.llm.model": '"gpt-4o"',
            "mlflow.chat.tokenUsage": '{"input_tokens": 3, "output_tokens": 4}',
            "mlflow.spanInputs": '{"messages": [{"role": "user", "content": "hello"}]}',
            "mlflow.spanOutputs": '"hi"',
        }
    )
    check(
        found,
        kind="llm",
        dialect="mlflow",
        model="gpt-4o",
        input_tokens=3,
        output_tokens=4,
        input_preview="hello",
        output_preview="hi",
    )
    check(columns({"mlflow.spanType": '"TOOL"'}, name="lookup"), kind="tool", tool="lookup")


def test_a_span_about_something_else_is_a_plain_span():
    check(columns({"http.request.method": "GET"}, name="GET /"), kind="span", dialect=None, model=None)


def test_more_from_the_cache_than_was_sent_means_they_are_counted_apart():
    found = columns(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 100,
        }
    )
    check(found, input_tokens=105)


@pytest.mark.parametrize("bad", [-1, "x", 2**70, 1.5e300, True, [], {}, float("nan")])
def test_a_token_count_that_is_none_is_left_out(bad):
    assert columns({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": bad}).input_tokens is None


@pytest.mark.parametrize(
    "answer",
    [
        "Error: user not found",
        "Error executing tool f: no",
        "Traceback (most recent call last):\n  …",
        "ValueError: bad",
        "Exception: bad",
        '{"error": "no such user"}',
        '{"error": {"message": "no", "code": 4}, "id": 1}',
        {"error": "x"},
        '{"is_error": true, "content": "command failed"}',
        '{"content": "bad", "status": "error", "tool_call_id": "1"}',
        "<tool_use_error>no</tool_use_error>",
        '"Error: quoted"',
    ],
)
def test_an_answer_that_begins_like_an_error_is_one(answer):
    assert failed_answer(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "No errors found",
        "The log says Error: x",
        "Errors: 0",
        "Error handling is described in chapter 3",
        '{"error": null, "data": 1}',
        '{"error": ""}',
        '{"data": 1, "error": "partial"}',
        '{"status": "error"}',
        "",
        "[]",
        None,
        5,
    ],
)
def test_an_answer_that_only_speaks_of_errors_is_none(answer):
    assert failed_answer(answer) is None


def test_every_dialect_has_its_own_name_and_mark():
    assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS)
    assert all(dialect.marks or dialect.names for dialect in DIALECTS)


def test_a_tool_that_names_the_model_is_a_tool_and_a_model_that_names_a_tool_is_not():
    said = {
        "gen_ai.request.model": "m", "tool.name": "Catalog", "gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0
    }  # fmt: skip
    check(columns(said | {"gen_ai.operation.name": "catalog.search"}), kind="tool", tool="Catalog")
    tokens = {"gen_ai.usage.input_tokens": 77, "gen_ai.usage.output_tokens": 48}
    check(columns(said | tokens | {"gen_ai.operation.name": "prepare_tool_call"}), kind="llm")
