"""What a translation between two protocols offers. No code of its own."""

from typing import Any, Protocol


class StreamTranslator(Protocol):
    """One answer that comes as a stream: the upstream's server-sent events in, the client's out.

    What comes out, put together, never depends on where the bytes were cut. Never raises on what an upstream sends: an event that
    does not parse says nothing to the client.
    """

    def feed(self, piece: bytes) -> bytes:
        """What the client can be told once these bytes are known; b"" when that is nothing yet."""
        ...

    def end(self, *, error: str | None = None) -> bytes:
        """The rest of the client's stream, closed as its protocol wants it, once the upstream sends no more.

        error: what went wrong, when something did. A stream that stops before its answer is complete ends with an error without it
        too: a client must never take half an answer for a whole one. A second call gives b"".
        """
        ...


class Translator(Protocol):
    """One call between a client of one protocol and an upstream of another.

    `request` comes first: what the client asked decides how it is answered.
    """

    def request(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The upstream's path below /v1, with its slash, and the body to send there.

        Raises BadInput, which names the field, for what the upstream's protocol has no words for and the answer would miss.
        """
        ...

    def answer(self, status: int, body: dict[str, Any]) -> dict[str, Any]:
        """A whole answer or an error, in the client's protocol. Lenient: never raises.

        An error is what has a status from 400 on, or says so itself: Azure answers some with 200.
        """
        ...

    def stream(self) -> StreamTranslator:
        """For the one stream that answers this call."""
        ...
