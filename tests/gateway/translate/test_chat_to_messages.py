"""A chat request as Anthropic gets it, and Anthropic's whole answer as the client gets it."""

from typing import Any

import pytest

from leyden.errors import BadInput
from leyden.gateway.translate import translator


def sent(**body: Any) -> dict[str, Any]:
    """What Anthropic is sent; the conversation is one question unless the test has its own."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **body}
    bridge = translator("chat", "messages")
    assert bridge is not None
    path, made = bridge.request(asked)
    assert path == "/messages"
    return made


def answered(status: int = 200, **body: Any) -> dict[str, Any]:
    bridge = translator("chat", "messages", now=1_700_000_000)
    assert bridge is not None
    bridge.request({"model": "m", "messages": []})
    return bridge.answer(status, body)


def test_parameters_get_their_other_names() -> None:
    made = sent(
        max_tokens=5,
        temperature=1,
        top_p=0.9,
        top_k=40,
        stop="END",
        user="u-1",
        stream=True,
        reasoning_effort="minimal",
        n=1,
        presence_penalty=0,
        seed=7,
    )
    assert made == {
        "model": "m",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "temperature": 1,
        "top_p": 0.9,
        "top_k": 40,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "output_config": {"effort": "low"},
        "stream": True,
    }
    assert sent()["max_tokens"] == 32_000
    assert sent(max_completion_tokens=9, max_tokens=5)["max_tokens"] == 9
    assert sent(reasoning_effort="none")["thinking"] == {"type": "disabled"}


def test_system_and_developer_messages_become_the_system_prompt_in_their_order() -> None:
    made = sent(
        messages=[
            {"role": "system", "content": "A"},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [{"type": "text", "text": "B"}]},
        ]
    )
    assert made["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert [turn["role"] for turn in made["messages"]] == ["user"]


def test_images_and_files_become_blocks() -> None:
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
    ]
    assert sent(messages=[{"role": "user", "content": content}])["messages"][0]["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
            "title": "a.pdf",
        },
    ]


def test_results_of_parallel_calls_share_one_turn_with_the_text_behind_them() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a"}'}},
        {"id": "functions.now:1", "type": "function", "function": {"name": "now", "arguments": ""}},
    ]
    made = sent(
        messages=[
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": "Hm."},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {
                "role": "tool",
                "tool_call_id": "functions.now:1",
                "content": [{"type": "text", "text": "two"}],
            },
            {"role": "user", "content": "Go on."},
        ]
    )
    assert made["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "read", "input": {"path": "a"}},
                {"type": "tool_use", "id": "functions_now_1", "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
                {
                    "type": "tool_result",
                    "tool_use_id": "functions_now_1",
                    "content": [{"type": "text", "text": "two"}],
                },
                {"type": "text", "text": "Go on."},
            ],
        },
    ]


def test_empty_texts_which_anthropic_refuses_are_left_out() -> None:
    made = sent(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}])
    assert [turn["role"] for turn in made["messages"]] == ["user"]


FUNCTIONS = [
    {
        "type": "function",
        "function": {
            "name": "read",
            "description": "Reads.",
            "parameters": {"properties": {}},
            "strict": True,
        },
    },
    {"type": "function", "function": {"name": "now"}},
]


def test_tools_keep_their_schema() -> None:
    assert sent(tools=FUNCTIONS)["tools"] == [
        {
            "name": "read",
            "description": "Reads.",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
        },
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "now"}}},
            {"type": "tool", "name": "now"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_the_choice_of_a_tool_is_carried(asked: dict[str, Any], made: dict[str, Any] | None) -> None:
    assert sent(tools=FUNCTIONS, **asked).get("tool_choice") == made


def test_tools_that_are_not_allowed_are_left_out() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}
    made = sent(tools=FUNCTIONS, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool["name"] for tool in made["tools"]] == ["now"]
    assert made["tool_choice"] == {"type": "any"}


def test_a_schema_for_the_answer_is_carried() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    made = sent(response_format=wanted)
    assert made["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert "output_config" not in sent(response_format={"type": "text"})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": 1}, "model"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}
                ]
            },
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1]"}}],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"temperature": 1.5}, "temperature"),
        ({"reasoning_effort": "odd"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": FUNCTIONS, "tool_choice": "odd"}, "tool_choice"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_the_name_of_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        sent(**body)
    assert refused.value.message.startswith(f"{field}: ")


def test_an_answer_becomes_one_choice() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "I "},
        {"type": "text", "text": "look."},
        {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "ä"}},
    ]
    usage = {
        "input_tokens": 30,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 60,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
    }
    assert answered(id="msg_7", model="served", content=content, stop_reason="tool_use", usage=usage) == {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "I look.",
                    "refusal": None,
                    "reasoning_content": "Hm.",
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "read", "arguments": '{"path":"ä"}'},
                        }
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }


@pytest.mark.parametrize(
    ("reason", "made"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("one of tomorrow", "stop"),
    ],
)
def test_the_reason_to_stop_is_carried(reason: str, made: str) -> None:
    assert answered(content=[], stop_reason=reason)["choices"][0]["finish_reason"] == made


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, "authentication_error", None),
        (404, "not_found_error", None),
        (429, "rate_limit_error", None),
        (529, "server_error", None),
    ],
)
def test_an_error_is_said_in_openais_words(status: int, kind: str, code: str | None) -> None:
    made = answered(status, type="error", error={"type": "x", "message": "Why."})
    assert made == {"error": {"message": "Why.", "type": kind, "param": None, "code": code}}


def test_a_prompt_that_is_too_long_has_openais_code() -> None:
    body = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"},
    }
    assert answered(400, **body)["error"]["code"] == "context_length_exceeded"


def test_doors_that_cannot_be_connected_have_no_translator() -> None:
    assert translator("chat", "chat") is None
    assert translator("embeddings", "messages") is None
