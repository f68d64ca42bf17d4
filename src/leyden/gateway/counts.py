"""Token counts of each protocol's `usage` as buckets that do not overlap.

Knows where providers differ: whether cached tokens are part of the prompt's, and reasoning part of the completion's. A count
that is no whole number from 0 to 2^53 does not count. None when a usage counts nothing.
"""

from collections.abc import Mapping
from typing import Any

from leyden.ingest.shapes import is_object, object_or_empty
from leyden.ingest.usage import Usage

_MAX = 2**53


def chat_usage(usage: Any) -> Usage | None:
    """OpenAI's chat completions, completions and embeddings, and who speaks like them.

    The prompt holds its cached tokens unless more are cached than it has: then they count apart. Thinking that some
    (Gemini, Grok) leave out of `completion_tokens` is what `total_tokens` has more than its parts.
    """
    if not is_object(usage):
        return None
    prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    total = count(usage, "total_tokens")
    if prompt is None and completion is None and total is None:
        return None
    given, made = prompt if prompt is not None else max(0, (total or 0) - (completion or 0)), completion or 0
    details = object_or_empty(usage.get("prompt_tokens_details"))
    read = (
        count(details, "cached_tokens")
        or count(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens", "cached_tokens")
        or 0
    )
    written = (
        count(details, "cache_write_tokens", "cache_creation_tokens")
        or count(usage, "cache_creation_input_tokens")
        or 0
    )
    inputs = _inputs(given, read, written, audio=count(details, "audio_tokens") or 0)
    details = object_or_empty(usage.get("completion_tokens_details"))
    reasoning = count(details, "reasoning_tokens") or count(usage, "reasoning_tokens") or 0
    apart = max(0, (total or 0) - inputs.all_input - made)
    return _with_output(
        inputs,
        made,
        reasoning=reasoning,
        audio=count(details, "audio_tokens") or 0,
        apart=apart,
    )


def responses_usage(usage: Any) -> Usage | None:
    """OpenAI's Responses API: the input holds its cached tokens, the output its reasoning."""
    if not is_object(usage):
        return None
    given, made = count(usage, "input_tokens"), count(usage, "output_tokens")
    if given is None and made is None:
        return None
    details = object_or_empty(usage.get("input_tokens_details"))
    inputs = _inputs(
        given or 0,
        count(details, "cached_tokens") or 0,
        count(details, "cache_write_tokens", "cache_creation_tokens") or 0,
        audio=count(details, "audio_tokens") or 0,
    )
    details = object_or_empty(usage.get("output_tokens_details"))
    return _with_output(
        inputs,
        made or 0,
        reasoning=count(details, "reasoning_tokens") or 0,
        audio=count(details, "audio_tokens") or 0,
    )


def messages_usage(usage: Any) -> Usage | None:
    """Anthropic's messages: what was read from and written to the cache is no part of `input_tokens`."""
    if not is_object(usage):
        return None
    given, made = count(usage, "input_tokens"), count(usage, "output_tokens")
    read, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    if given is None and made is None and read is None and written is None:
        return None
    lifetimes = object_or_empty(usage.get("cache_creation"))
    for_hour = count(lifetimes, "ephemeral_1h_input_tokens") or 0
    for_minutes = count(lifetimes, "ephemeral_5m_input_tokens") or 0
    details = object_or_empty(usage.get("output_tokens_details"))
    inputs = Usage(
        input=given or 0,
        cache_read=read or 0,
        cache_write=for_minutes if written is None else max(0, written - for_hour),
        cache_write_1h=for_hour,
    )
    return _with_output(
        inputs, made or 0, reasoning=count(details, "thinking_tokens", "reasoning_tokens") or 0
    )


def count(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first of the fields that is a count."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if 0 <= value <= _MAX and value == int(value):
            return int(value)
    return None


def _inputs(given: int, read: int, written: int, *, audio: int) -> Usage:
    if read + written > given:
        return Usage(
            input=given - min(audio, given),
            cache_read=read,
            cache_write=written,
            audio_input=min(audio, given),
        )
    fresh = given - read - written
    audio = min(audio, fresh)  # audio that was cached is counted there
    return Usage(input=fresh - audio, cache_read=read, cache_write=written, audio_input=audio)


def _with_output(usage: Usage, made: int, *, reasoning: int, audio: int = 0, apart: int = 0) -> Usage:
    """apart: tokens made beside the `made` ones, which are thinking."""
    if apart or reasoning > made:
        reasoning = max(reasoning, apart)
        audio = min(audio, made)
        return usage._replace(output=made - audio, reasoning=reasoning, audio_output=audio)
    audio = min(audio, made - reasoning)
    return usage._replace(output=made - reasoning - audio, reasoning=reasoning, audio_output=audio)
