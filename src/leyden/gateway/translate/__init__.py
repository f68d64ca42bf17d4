"""Calls between protocols: a client of one on an upstream of the other.

Owns: how requests, answers, streams and errors of OpenAI's chat completions and Responses and Anthropic's Messages say the same thing. Promises:
pure and deterministic, ids come from the upstream's; what cannot be carried is refused with the name of its field, and what is left
behind is documented. Refuses to know: sockets, clocks, upstreams and their quirks beyond their protocol.
"""

from collections.abc import Callable

from leyden.gateway.call import Door
from leyden.gateway.translate.chat_to_messages import ChatToMessages
from leyden.gateway.translate.contract import StreamTranslator, Translator
from leyden.gateway.translate.estimate import estimate_tokens
from leyden.gateway.translate.failure import chat_error, messages_error
from leyden.gateway.translate.messages_to_chat import MessagesToChat
from leyden.gateway.translate.responses_to_chat import ResponsesToChat
from leyden.gateway.translate.responses_to_messages import ResponsesToMessages

__all__ = [
    "StreamTranslator",
    "Translator",
    "chat_error",
    "estimate_tokens",
    "messages_error",
    "translator",
]


def translator(client_door: Door, upstream_door: Door, *, now: int = 0) -> Translator | None:
    """For one call; None where these two doors cannot be connected, and where they are the same and nothing is to be translated.

    now: unix seconds, for answers that carry their time.
    """
    known: dict[tuple[Door, Door], Callable[[], Translator]] = {
        ("messages", "chat"): MessagesToChat,
        ("chat", "messages"): lambda: ChatToMessages(now=now),
        ("responses", "chat"): lambda: ResponsesToChat(now=now),
        ("responses", "messages"): lambda: ResponsesToMessages(now=now),
    }
    make = known.get((client_door, upstream_door))
    return None if make is None else make()
