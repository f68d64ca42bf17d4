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
