"""OpenAI's chat completions, completions and embeddings."""

import base64
import copy
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams import assembled, assert_same_however_cut, sse
from leyden.gateway.wires import wire_of
from leyden.ingest.usage import Usage

chat, completions, embeddings = wire_of("chat"), wire_of("completions"), wire_of("embeddings")


def chunk(
    delta: dict[str, Any] | None = None, *, index: int = 0, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m-1",
        "service_tier": "default",
        "system_fingerprint": "fp",
        "obfuscation": "xyz",
        "choices": [{**choice, **more.pop("choice", {})}],
        **more,
    }  # fmt: skip


def body(message: dict[str, Any], *, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "service_tier": "default",
        "system_fingerprint": "fp",
        "choices": [{**choice, **more.pop("choice", {})}],
        **more,
    }


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
OTHER = {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}}
LOGPROBS = [
    {"token": t, "logprob": -0.5, "bytes": [104], "top_logprobs": [{"token": t, "logprob": -0.5}]}
    for t in "ab"
]

PAIRS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "text and usage": (
        sse(
            chunk({"role": "assistant", "content": "", "refusal": None}, usage=None),
            chunk({"content": "Grü"}, usage=None),
            chunk({"content": "ße 👋"}, usage=None),
            chunk(finish="stop", usage=None),
            {**chunk(usage=USAGE), "choices": []},
            done=True,
        ),
        body({"role": "assistant", "content": "Grüße 👋", "refusal": None}, usage=USAGE),
    ),
    "two tool calls": (
        sse(
            chunk({"role": "assistant", "content": "", "tool_calls": [{**CALL, "index": 0, "function": {"name": "weather", "arguments": ""}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Zü'}}]}),
            chunk({"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'rich"}'}}]}),
            chunk(finish="tool_calls"),
            done=True,
        ),
        body({"role": "assistant", "content": None, "tool_calls": [CALL, OTHER]}, finish="tool_calls"),
    ),
    "Gemini's whole calls, all at index 0 and signed": (
        sse(
            chunk({"role": "assistant", "tool_calls": [{**CALL, "index": 0, "extra_content": {"google": {"thought_signature": "s"}}}]}),
            chunk({"tool_calls": [{**OTHER, "index": 0}]}, finish="tool_calls"),
        ),
        body(
            {"role": "assistant", "content": None, "tool_calls": [{**CALL, "extra_content": {"google": {"thought_signature": "s"}}}, OTHER]},
            finish="tool_calls",
        ),
    ),
    "calls without an index": (
        sse(chunk({"role": "assistant", "tool_calls": [CALL]}), chunk({"tool_calls": [OTHER]}, finish="tool_calls")),
        body({"role": "assistant", "content": None, "tool_calls": [CALL, OTHER]}, finish="tool_calls"),
    ),
    "a name said again with every chunk": (
        sse(
            chunk({"role": "assistant", "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}]}),
            chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '"Zürich"}'}}]}, finish="tool_calls"),
        ),
        body({"role": "assistant", "content": None, "tool_calls": [CALL]}, finish="tool_calls"),
    ),
    "the legacy function call": (
        sse(
            chunk({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}),
            chunk({"function_call": {"arguments": '{"a":'}}),
            chunk({"function_call": {"arguments": "1}"}}, finish="function_call"),
        ),
        body({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}, finish="function_call"),
    ),
    "thinking before the answer": (
        sse(
            chunk({"role": "assistant", "reasoning_content": "Hm"}),
            chunk({"reasoning_content": "m."}),
            chunk({"content": "42"}, finish="stop"),
        ),
        body({"role": "assistant", "content": "42", "reasoning_content": "Hmm."}),
    ),
    "OpenRouter's reasoning": (
        sse(
            chunk({"role": "assistant", "content": "", "reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0, "format": "x"}]}),
            chunk({"content": "", "reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0, "format": "x"}]}),
            chunk({"content": "ok"}, finish="stop"),
        ),
        body({"role": "assistant", "content": "ok", "reasoning": "aa", "reasoning_details": [{"type": "reasoning.text", "text": "aa", "index": 0, "format": "x"}]}),
    ),
    "a refusal": (
        sse(chunk({"role": "assistant", "content": None, "refusal": "I "}), chunk({"refusal": "will not."}, finish="stop")),
        body({"role": "assistant", "content": None, "refusal": "I will not."}),
    ),
    "sound": (
        sse(
            chunk({"role": "assistant", "audio": {"id": "a1", "transcript": "Hel"}}),
            chunk({"audio": {"data": "AAAA", "transcript": "lo"}}),
            chunk({"audio": {"data": "BBBB"}}),
            chunk({"audio": {"expires_at": 99}}, finish="stop"),
        ),
        body({"role": "assistant", "content": None, "audio": {"id": "a1", "transcript": "Hello", "data": "AAAABBBB", "expires_at": 99}}),
    ),
    "citations of a search": (
        sse(
            chunk({"role": "assistant", "content": "See."}),
            chunk({"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}, finish="stop"),
        ),
        body({"role": "assistant", "content": "See.", "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}),
    ),
    "logprobs and vLLM's token ids": (
        sse(
            chunk({"role": "assistant", "content": ""}, prompt_token_ids=[1, 2, 3], choice={"token_ids": None}),
            chunk({"content": "a"}, choice={"logprobs": {"content": LOGPROBS[:1], "refusal": None}, "token_ids": [64]}),
            chunk({"content": "b"}, choice={"logprobs": {"content": LOGPROBS[1:], "refusal": None}, "token_ids": [65, 2]}, finish="stop"),
            done=True,
        ),
        body(
            {"role": "assistant", "content": "ab"},
            choice={"logprobs": {"content": LOGPROBS, "refusal": None}, "token_ids": [64, 65, 2]},
            prompt_token_ids=[1, 2, 3],
        ),
    ),
    "Azure's first chunk says nothing of itself": (
        sse(
            {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            chunk({"role": "assistant", "content": "Hi"}, choice={"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}),
            chunk(finish="stop", choice={"content_filter_results": {"hate": {"filtered": False, "severity": "low"}}}),
            done=True,
        ),
        body(
            {"role": "assistant", "content": "Hi"},
            choice={"content_filter_results": {"hate": {"filtered": False, "severity": "low"}}},
            prompt_filter_results=[{"prompt_index": 0}],
        ),
    ),
    "fields nobody has heard of": (
        sse(
            chunk({"role": "assistant", "content": "a", "mood": "calm"}, x_top={"y": 1}),
            chunk({"content": "b", "mood": "calm"}, x_top={"y": 2}, choice={"x_choice": [1]}),
            chunk(finish="stop", choice={"x_choice": [2]}),
        ),
        body({"role": "assistant", "content": "ab", "mood": "calm"}, x_top={"y": 2}, choice={"x_choice": [1, 2]}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_chat_stream_becomes_the_body_of_the_same_call_without_stream(name: str) -> None:
    stream, expected = PAIRS[name]
    assembler = assembled("chat", stream)
    assert assembler.body() == expected
    assert (assembler.is_complete, assembler.broken) == (True, 0)
    assert_same_however_cut("chat", stream, [3, 50, 51])


@settings(deadline=None)
@given(st.sampled_from(sorted(PAIRS)), st.lists(st.integers(0, 5000), max_size=20))
def test_a_chat_stream_reads_the_same_wherever_it_is_cut(name: str, places: list[int]) -> None:
    assert_same_however_cut("chat", PAIRS[name][0], places)


def test_choices_come_in_the_order_of_their_index_each_with_its_own_text() -> None:
    stream = sse(
        chunk({"role": "assistant", "content": "b"}, index=1),
        chunk({"role": "assistant", "content": "a"}, index=0),
        chunk({"content": "B"}, index=1, finish="length"),
    )
    assembler = assembled("chat", stream)
    assert not assembler.is_complete
    assembler.feed(sse(chunk(index=0, finish="stop")))
    assert assembler.is_complete
    choices = assembler.body()["choices"]
    assert [(c["message"]["content"], c["finish_reason"]) for c in choices] == [
        ("a", "stop"),
        ("bB", "length"),
    ]


def test_a_stream_that_stops_in_the_middle_is_kept_as_far_as_it_went_and_not_complete() -> None:
    stream = sse(chunk({"role": "assistant", "content": "Hel"}), chunk({"content": "lo"}))
    assembler = assembled("chat", stream, b'data: {"id": "chatcmpl-1", "cho')
    assert not assembler.is_complete
    assert assembler.body()["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert chat.said(assembler.body()).finish_reasons == ()


def test_an_error_in_a_stream_is_kept_beside_what_came_before() -> None:
    error = {"error": {"message": "The engine died.", "type": "InternalServerError", "code": 500}}
    assembler = assembled("chat", sse(chunk({"role": "assistant", "content": "Hel"}), error, done=True))
    said = chat.said(assembler.body())
    assert said.error == ("InternalServerError", "The engine died.")
    assert said.completion == [{"role": "assistant", "content": "Hel"}]


def test_what_is_no_json_object_is_counted_and_left_out() -> None:
    stream = sse(
        b"data: {not json}\n\n",
        b"data: 17\n\n",
        b": keep-alive\n\n",
        chunk({"content": "a"}),
        b"data: null\n\n",
    )
    assembler = assembled("chat", stream)
    assert assembler.broken == 3
    assert assembler.body()["choices"][0]["message"]["content"] == "a"


def test_half_a_character_in_a_stream_becomes_a_replacement_character() -> None:
    stream = sse(chunk({"content": "€"})).replace("€".encode(), "€".encode()[:2])
    assert assembled("chat", stream).body()["choices"][0]["message"]["content"] == "\N{REPLACEMENT CHARACTER}"


def test_a_body_read_early_does_not_change_when_more_arrives() -> None:
    assembler = assembled("chat", sse(chunk({"content": "a", "tool_calls": [CALL]})))
    early = assembler.body()
    kept = copy.deepcopy(early)
    assembler.feed(sse(chunk({"content": "b", "tool_calls": [CALL]}), chunk(finish="stop")))
    assert early == kept


COMPLETION_STREAM = sse(
    {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "choices": [
        {"text": "He", "index": 0, "finish_reason": None, "token_ids": [1], "prompt_token_ids": [9, 8],
         "logprobs": {"tokens": ["He"], "token_logprobs": [-0.1], "top_logprobs": [{"He": -0.1, "Ha": -2.0}], "text_offset": [0]}}]},
    {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "choices": [
        {"text": "llo", "index": 0, "finish_reason": None, "token_ids": [2],
         "logprobs": {"tokens": ["llo"], "token_logprobs": [-0.2], "top_logprobs": None, "text_offset": [2]}}]},
    {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "choices": [{"text": "", "index": 0, "finish_reason": "stop", "logprobs": None}]},
    {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "choices": [], "usage": USAGE},
    done=True,
)  # fmt: skip


def test_a_completion_stream_becomes_the_body_of_the_same_call_without_stream() -> None:
    assert assembled("completions", COMPLETION_STREAM).body() == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "text": "Hello",
                "finish_reason": "stop",
                "token_ids": [1, 2],
                "prompt_token_ids": [9, 8],
                "logprobs": {
                    "tokens": ["He", "llo"],
                    "token_logprobs": [-0.1, -0.2],
                    "top_logprobs": [{"He": -0.1, "Ha": -2.0}],
                    "text_offset": [0, 2],
                },
            }
        ],
        "usage": USAGE,
    }


@settings(deadline=None)
@given(st.lists(st.integers(0, 2000), max_size=20))
def test_a_completion_stream_reads_the_same_wherever_it_is_cut(places: list[int]) -> None:
    assert_same_however_cut("completions", COMPLETION_STREAM, places)


def test_token_ids_and_logprobs_of_a_completion_read_as_those_of_a_chat() -> None:
    said = completions.said(assembled("completions", COMPLETION_STREAM).body())
    assert (said.prompt_token_ids, said.response_token_ids) == ([9, 8], [1, 2])
    assert said.logprobs == [
        {"token": "He", "logprob": -0.1, "top_logprobs": [{"token": "He", "logprob": -0.1}, {"token": "Ha", "logprob": -2.0}]},
        {"token": "llo", "logprob": -0.2, "top_logprobs": []},
    ]  # fmt: skip
    assert said.completion == [{"role": "assistant", "content": "Hello", "finish_reason": "stop"}]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt_token_ids": [1], "choices": [{"token_ids": [2]}]}, ([1], [2])),
        (
            {"choices": [{"provider_specific_fields": {"prompt_token_ids": [1], "token_ids": [2]}}]},
            ([1], [2]),
        ),
        ({"choices": [{"message": {"provider_specific_fields": {"token_ids": [2]}}}]}, (None, [2])),
        ({"prompt_token_ids": [1], "response_token_ids": [[2], [3]], "choices": []}, ([1], [2])),
        ({"response_token_ids": [2]}, (None, [2])),
        ({"prompt_token_ids": ["1"], "choices": [{"token_ids": [True]}]}, (None, None)),
    ],
)
def test_token_ids_are_found_wherever_upstreams_put_them(body: dict[str, Any], expected: Any) -> None:
    said = chat.said(body)
    assert (said.prompt_token_ids, said.response_token_ids) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE, Usage(input=9, output=3)),
        (
            {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
             "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10},
             "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 5}},
            Usage(input=30, cache_read=60, audio_input=10, output=25, reasoning=20, audio_output=5),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 40}}, Usage(input=10, cache_read=40, output=1)),
        ({"prompt_tokens": 30, "completion_tokens": 1, "prompt_cache_hit_tokens": 20, "prompt_cache_miss_tokens": 10}, Usage(input=10, cache_read=20, output=1)),
        # Gemini counts its thinking in the total alone
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}, Usage(input=10, output=5, reasoning=25)),
        # Grok counts it beside the completion
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 25}}, Usage(input=10, output=5, reasoning=25)),
        ({"prompt_tokens": 100, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 50}}, Usage(cache_read=100)),
        ({"prompt_tokens": 100, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 30}}, Usage(input=20, cache_read=50, cache_write=30, output=2)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input=8)),
        ({"total_tokens": 8}, Usage(input=8)),
        ({}, None),
        (None, None),
        ({"prompt_tokens": "9", "completion_tokens": -1, "total_tokens": True}, None),
        ({"prompt_tokens": 2**70, "completion_tokens": 3.0}, Usage(output=3)),
    ],
)  # fmt: skip
def test_usage_falls_into_buckets_that_do_not_overlap(usage: Any, expected: Usage | None) -> None:
    assert chat.said({"usage": usage}).usage == expected
    assert embeddings.said({"usage": usage}).usage == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "No.", "type": "invalid_request_error", "code": "invalid_api_key"}}, ("invalid_request_error", "No.")),
        ({"error": {"code": "DeploymentNotFound", "message": "No."}}, ("DeploymentNotFound", "No.")),
        ({"error": {"message": "Filtered.", "type": None, "code": "content_filter"}}, ("content_filter", "Filtered.")),
        ({"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}, ("INVALID_ARGUMENT", "No.")),
        ([{"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}], ("INVALID_ARGUMENT", "No.")),
        ({"error": {"code": 402, "message": "Pay."}}, ("402", "Pay.")),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Later."}}, ("overloaded_error", "Later.")),
        ({"object": "error", "message": "No.", "type": "BadRequestError", "code": 400}, ("BadRequestError", "No.")),
        ({"error": "model 'x' not found"}, ("error", "model 'x' not found")),
        ({"detail": "Not Found"}, ("error", "Not Found")),
        ({"choices": [{"error": {"code": 502, "message": "Upstream."}, "finish_reason": "error"}]}, ("502", "Upstream.")),
        ({"choices": [], "error": None}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_errors_of_every_provider_have_a_type_and_a_message(
    body: Any, expected: tuple[str, str] | None
) -> None:
    assert chat.said(body).error == expected


def test_an_answer_reads_as_messages_of_the_genai_conventions() -> None:
    said = chat.said(
        body(
            {"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", "tool_calls": [CALL]},
            usage=USAGE,
        )
    )
    assert said.messages == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                {"type": "text", "content": "Hi"},
                {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Zürich"}},
            ],
            "finish_reason": "stop",
        }
    ]
    assert said.completion == [
        {"role": "assistant", "content": "Hi", "reasoning_content": "Hm.", "tool_calls": [CALL], "finish_reason": "stop"}
    ]  # fmt: skip
    assert (said.id, said.model, said.finish_reasons, said.service_tier) == (
        "chatcmpl-1",
        "m-1",
        ("stop",),
        "default",
    )


def test_a_request_reads_as_messages_tools_and_parameters() -> None:
    asked = chat.asked(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            ],
            "tools": [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": True}}],
            "tool_choice": "auto", "response_format": {"type": "json_object"}, "temperature": 0.5, "max_completion_tokens": 10, "max_tokens": 5,
            "stop": "END", "n": 2, "seed": 3, "stream": True, "reasoning_effort": "low", "top_p": "high", "user": "u-1",
        }
    )  # fmt: skip
    assert asked.messages == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Look:"}, {"type": "uri", "modality": "image", "uri": "https://x/y.png"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Zürich"}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
    ]  # fmt: skip
    assert asked.tools == [
        {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}}
    ]
    assert asked.parameters == {
        "temperature": 0.5, "max_tokens": 10, "stop_sequences": ["END"], "choice.count": 2, "seed": 3, "stream": True,
        "reasoning.level": "low", "tool_choice": "auto", "response_format": {"type": "json_object"},
    }  # fmt: skip
    assert asked.session == "u-1"
    assert asked.prompt[2] == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert asked.system == []


def test_a_picture_of_megabytes_becomes_its_size_and_hash_and_a_small_one_stays() -> None:
    big, small = bytes(range(256)) * 4096 * 3 + b"!", b"tiny"

    def image(data: bytes) -> dict[str, Any]:
        return {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64," + base64.b64encode(data).decode()},
        }

    asked = chat.asked({"messages": [{"role": "user", "content": [image(big), image(small)]}]})
    blob = {
        "type": "blob",
        "modality": "image",
        "mime_type": "image/png",
        "bytes": len(big),
        "sha256": hashlib.sha256(big).hexdigest(),
    }
    inline = {
        "type": "blob",
        "modality": "image",
        "mime_type": "image/png",
        "content": base64.b64encode(small).decode(),
    }
    assert asked.messages == [{"role": "user", "parts": [blob, inline]}]
    assert asked.prompt == [{"role": "user", "content": [blob, image(small)]}]


def test_long_base64_is_left_out_wherever_a_message_hides_it() -> None:
    data = "data:application/pdf;base64," + "A" * 8000
    messages = [
        {"role": "user", "content": [{"type": "file", "file": {"file_data": data, "filename": "a.pdf"}}]},
        {
            "role": "user",
            "content": [{"type": "input_audio", "input_audio": {"data": "A" * 8000, "format": "wav"}}],
        },
        {"role": "user", "content": [{"type": "new", "deep": {"er": [data]}}]},
        {"role": "assistant", "content": None, "audio": {"data": "A" * 8000, "format": "mp3"}},
    ]
    asked = chat.asked({"messages": messages})
    assert len(str(asked)) < 4000
    assert asked.messages[0]["parts"][0]["filename"] == "a.pdf"


def test_prompts_of_completions_and_inputs_of_embeddings_are_user_messages() -> None:
    assert completions.asked({"prompt": ["a", "b"], "max_tokens": 3}).prompt == [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
    ]
    assert completions.asked({"prompt": [1, 2, 3]}).prompt == [{"role": "user", "content": "[3 token ids]"}]
    asked = embeddings.asked({"input": "a", "dimensions": 8, "encoding_format": "float"})
    assert asked.messages == [{"role": "user", "parts": [{"type": "text", "content": "a"}]}]
    assert asked.parameters == {"dimensions": 8, "encoding_formats": ["float"]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"metadata": {"user_id": "user_1_account__session_0b1c"}}, "0b1c"),
        ({"metadata": {"user_id": '{"device_id": "d", "session_id": "0b1c"}'}}, "0b1c"),
        ({"metadata": {"user_id": "somebody"}}, "somebody"),
        ({"metadata": {"session_id": "s"}, "user": "u"}, "s"),
        ({"conversation": {"id": "conv_1"}, "user": "u"}, "conv_1"),
        ({"user": "u", "previous_response_id": "r"}, "u"),
        ({"previous_response_id": "r"}, "r"),
        ({"user": 7}, None),
    ],
)
def test_a_request_names_its_session(body: dict[str, Any], expected: str | None) -> None:
    assert chat.asked(body).session == expected


def test_a_stream_of_ten_thousand_words_keeps_every_one() -> None:
    piece = sse(*[chunk({"content": "word "}) for _ in range(500)])
    assembler = assembled("chat", *[piece] * 20)
    assert assembler.body()["choices"][0]["message"]["content"] == "word " * 10_000
