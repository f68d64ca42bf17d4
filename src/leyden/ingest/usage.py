"""Tokens of one model call in buckets that do not overlap."""

from typing import NamedTuple


class Usage(NamedTuple):
    """Tokens by what they cost. No token is in two buckets: `input` leaves out what was read from or written to a cache and
    audio, `output` leaves out reasoning and audio.

    cache_write_1h: the part written with a lifetime of an hour, which Anthropic prices apart (`cache_write` leaves it out).
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0

    @property
    def all_input(self) -> int:
        """Everything that was sent, as `gen_ai.usage.input_tokens` counts it."""
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h + self.audio_input

    @property
    def all_output(self) -> int:
        """Everything that was generated, as `gen_ai.usage.output_tokens` counts it."""
        return self.output + self.reasoning + self.audio_output

    @property
    def total(self) -> int:
        """All tokens: what a limit on tokens counts."""
        return sum(self)


def usage_of(
    *,
    input_tokens: int | None,
    output_tokens: int | None,
    cache_read_tokens: int | None = None,
    cache_write_tokens: int | None = None,
    reasoning_tokens: int | None = None,
) -> Usage:
    """The buckets of a span's columns, of which the input contains what was cached and the output the reasoning.

    A source that reports more reasoning than output, or more from the cache than was sent, counts them apart; then they are apart here too.
    """
    sent, got, thought = input_tokens or 0, output_tokens or 0, reasoning_tokens or 0
    read, written = cache_read_tokens or 0, cache_write_tokens or 0
    cached = read + written
    plain = sent - cached if sent >= cached else sent
    return Usage(plain, read, written, 0, got - thought if got >= thought else got, thought)
