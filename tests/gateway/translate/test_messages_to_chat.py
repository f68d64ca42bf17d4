"""A Messages request as an OpenAI-compatible upstream gets it, and the upstream's whole answer as the client gets it."""

from typing import Any

import pytest

from leyden.errors import BadInput
from leyden.gateway.translate import translator


def sent(**body: Any) -> dict[str, Any]:
    """What the upstream is sent; the conversation is one question unless the test has its own."""
    asked = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}], **body}
    bridge = translator("messages", "chat")
    assert bridge is not None
    path, made = bridge.request(asked)
    assert path == "/chat/completions"
    return made


def answered(choice: dict[str, Any], *, status: int = 200, **body: Any) -> dict[str, Any]:
    """What a client that asks for thinking gets for a chat completion of one choice."""
    bridge = translator("messages", "chat")
    assert bridge is not None
    bridge.request({"model": "m", "max_tokens": 10, "messages": [], "thinking": {"type": "adaptive"}})
    return bridge.answer(status, {"id": "chatcmpl-7", "model": "served", "choices": [choice], **body})


def said(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return sent(messages=list(messages))["messages"]


def test_parameters_get_their_other_names() -> None:
    made = sent(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END"],
        metadata={"user_id": "u-1"},
        stream=True,
    )
    assert made == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 10,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "stop": ["END"],
        "user": "u-1",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_user_id_longer_than_openai_takes_keeps_one_short_name() -> None:
    first, again, other = (sent(metadata={"user_id": letter * 150})["user"] for letter in "aab")
    assert len(first) == 64
    assert first == again != other


def test_system_blocks_are_one_message_without_the_billing_line_that_changes_every_time() -> None:
    blocks = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=1f;"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be kind."},
    ]
    assert sent(system=blocks)["messages"][0] == {"role": "system", "content": "Be brief.\n\nBe kind."}
    line = "x-anthropic-billing-header: cch=1f;\nBe brief."
    assert sent(system=line)["messages"][0] == {"role": "system", "content": "Be brief."}


def test_system_messages_move_to_the_front_before_the_first_answer_and_stay_in_place_after_it() -> None:
    user, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    made = said(user, {"role": "system", "content": "A"}, answer, user, {"role": "system", "content": "B"})
    assert [message["role"] for message in made] == ["system", "user", "assistant", "user", "system"]
    assert [made[0]["content"], made[-1]["content"]] == ["A", "B"]


def test_images_and_documents_become_parts_in_their_order() -> None:
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "page"}},
        {"type": "text", "text": ""},
    ]
    assert said({"role": "user", "content": content})[0]["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {
            "type": "file",
            "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,QUJD"},
        },
        {"type": "text", "text": "page"},
    ]


def test_a_turn_of_tools_keeps_ids_order_and_the_text_behind_the_results() -> None:
    turn = [
        {"type": "thinking", "thinking": "Both.", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Looking."},
        {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "ä"}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "one"}]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "gone", "is_error": True},
        {"type": "text", "text": "Go on."},
    ]
    assert said({"role": "assistant", "content": turn}, {"role": "user", "content": results}) == [
        {
            "role": "assistant",
            "content": "Looking.",
            "reasoning_content": "Both.",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "read", "arguments": '{"path":"ä"}'},
                },
                {"id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "one"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: gone"},
        {"role": "user", "content": "Go on."},
    ]


def test_an_image_in_a_result_follows_in_a_message_of_the_user() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "A"}, image]}
    empty = {"type": "tool_result", "tool_use_id": "t2"}
    first, second, shown = said({"role": "user", "content": [result, empty]})
    assert first == {"role": "tool", "tool_call_id": "t1", "content": "A"}
    assert second == {"role": "tool", "tool_call_id": "t2", "content": ""}
    assert shown["role"] == "user"
    assert shown["content"][1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}


def test_tools_keep_their_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    made = sent(
        tools=[
            {"name": "read", "description": "Reads.", "input_schema": schema, "strict": True},
            {"type": "custom", "name": "now", "input_schema": {}},
        ]
    )
    assert made["tools"] == [
        {
            "type": "function",
            "function": {"name": "read", "description": "Reads.", "parameters": schema, "strict": True},
        },
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert "tool_choice" not in made


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "read"},
            {"tool_choice": {"type": "function", "function": {"name": "read"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_of_a_tool_is_carried(choice: dict[str, Any], made: dict[str, Any]) -> None:
    body = sent(tools=[{"name": "read", "input_schema": {}}], tool_choice=choice)
    assert {key: body[key] for key in ("tool_choice", "parallel_tool_calls") if key in body} == made
    assert "tool_choice" not in sent(tool_choice=choice)  # upstreams refuse a choice among no tools


def test_a_schema_for_the_answer_is_carried() -> None:
    schema = {"type": "object", "properties": {}}
    made = sent(output_config={"effort": "high", "format": {"type": "json_schema", "schema": schema}})
    assert made["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": schema, "strict": True},
    }
    assert "reasoning_effort" not in made


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": None}, "model"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "{"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            },
            "messages[0].content[0].source",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[0].content[0]",
        ),
        ({"system": [{"type": "image"}]}, "system[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "a"}], "tool_choice": {"type": "odd"}}, "tool_choice.type"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"mcp_servers": [{"url": "https://example.com"}]}, "mcp_servers"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_the_name_of_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        sent(**body)
    assert refused.value.message.startswith(f"{field}: ")


def test_an_answer_with_reasoning_text_and_calls_becomes_blocks_in_that_order() -> None:
    message = {
        "role": "assistant",
        "reasoning": "Hm.",
        "content": "I look.",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "read", "arguments": '{"path": "a"}'},
            },
            {"type": "function", "function": {"name": "now", "arguments": ""}},
            {"id": "call_3", "type": "function", "function": {"name": "odd", "arguments": '{"a'}},
        ],
    }
    assert answered({"message": message, "finish_reason": "tool_calls"}) == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "call_1", "name": "read", "input": {"path": "a"}},
            {"type": "tool_use", "id": "call_7_1", "name": "now", "input": {}},
            {"type": "tool_use", "id": "call_3", "name": "odd", "input": {"arguments": '{"a'}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
        },
    }


def test_reasoning_is_not_shown_to_a_client_that_asks_for_no_thinking() -> None:
    bridge = translator("messages", "chat")
    assert bridge is not None
    bridge.request({"model": "m", "messages": []})
    message = {"content": "Yes.", "reasoning_content": "Hm."}
    made = bridge.answer(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
    assert made["content"] == [{"type": "text", "text": "Yes."}]
    assert made["model"] == "m"


CALL = {"id": "c", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("choice", "reason", "sequence"),
    [
        ({"finish_reason": "stop", "message": {"content": "x"}}, "end_turn", None),
        (
            {"finish_reason": "stop", "stop_reason": "END", "message": {"content": "x"}},
            "stop_sequence",
            "END",
        ),
        ({"finish_reason": "stop", "stop_reason": 128009, "message": {"content": "x"}}, "end_turn", None),
        ({"finish_reason": "stop", "message": {"tool_calls": [CALL]}}, "tool_use", None),
        ({"finish_reason": "length", "message": {"tool_calls": [CALL]}}, "max_tokens", None),
        ({"finish_reason": "tool_calls", "message": {"content": "x"}}, "end_turn", None),
        ({"finish_reason": "content_filter", "message": {"content": None}}, "refusal", None),
        ({"finish_reason": "stop", "message": {"refusal": "No."}}, "refusal", None),
        ({"finish_reason": "abort", "message": {"content": "x"}}, "end_turn", None),
    ],
)
def test_the_reason_to_stop_is_carried(choice: dict[str, Any], reason: str, sequence: str | None) -> None:
    made = answered(choice)
    assert (made["stop_reason"], made["stop_sequence"]) == (reason, sequence)


def test_tokens_from_a_cache_are_counted_beside_the_input() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert answered({"message": {}}, usage=usage)["usage"] == {
        "input_tokens": 30,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 60,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
    }
    apart = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}
    assert answered({"message": {}}, usage=apart)["usage"]["input_tokens"] == 10


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, {"error": {"message": "Wrong key", "type": "x"}}, "authentication_error", "Wrong key"),
        (404, {"object": "error", "message": "No model", "code": 404}, "not_found_error", "No model"),
        (429, {"error": "Slow down"}, "rate_limit_error", "Slow down"),
        (422, {"detail": "Odd"}, "invalid_request_error", "Odd"),
        (500, {}, "api_error", "The upstream answered with status 500."),
        (503, {"error": {"message": None}}, "overloaded_error", "The upstream answered with status 503."),
        (
            400,
            {"error": {"message": "Too many.", "code": "context_length_exceeded"}},
            "invalid_request_error",
            "prompt is too long: Too many.",
        ),
        (
            400,
            {
                "error": {
                    "message": "'max_tokens' is too large: 9. This model's maximum context length is 8 tokens"
                }
            },
            "invalid_request_error",
            "'max_tokens' is too large: 9. This model's maximum context length is 8 tokens",
        ),
    ],
)
def test_an_error_is_said_in_anthropics_words(
    status: int, body: dict[str, Any], kind: str, message: str
) -> None:
    bridge = translator("messages", "chat")
    assert bridge is not None
    assert bridge.answer(status, body) == {"type": "error", "error": {"type": kind, "message": message}}
