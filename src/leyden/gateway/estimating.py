"""The tokens of a stream that ended before its upstream counted them: a guess, so that what was used is in budgets all the same. Pure."""

import orjson

from leyden.gateway.call import Call
from leyden.gateway.reading import Said
from leyden.gateway.translate import estimate_tokens
from leyden.ingest.usage import Usage

BYTES_PER_TOKEN = 4


def is_counted(said: Said) -> bool:
    """Whether the upstream's last word on tokens came: counts, with or after why the answer ends. Counts before that go on growing."""
    return said.usage is not None and bool(said.finish_reasons)


def estimated(call: Call, said: Said) -> Usage | None:
    """The tokens of a call, of whose answer only this came. None when nothing came, or nothing but an error.

    Sent: what the upstream said, else a token for each 4 bytes, and a little for each picture. Answered: what it said or a token for each
    4 characters of what came, whichever is more.
    """
    if said.id is None and not said.messages and said.usage is None:
        return None
    usage = said.usage or Usage()
    if not usage.all_input:
        usage = usage._replace(input=_sent(call))
    missing = _characters(said) // BYTES_PER_TOKEN - usage.all_output
    return usage._replace(output=usage.output + max(0, missing))


def _sent(call: Call) -> int:
    size = len(call.body) // BYTES_PER_TOKEN
    # Pictures are sent as text that is far longer than they count.
    return min(size, estimate_tokens(call.asked)) if call.door in ("chat", "messages") else size


def _characters(said: Said) -> int:
    """Of all that a model wrote: texts, thoughts, and calls with their arguments."""
    found = 0
    for message in said.messages:
        for part in message["parts"]:
            content, arguments = part.get("content"), part.get("arguments")
            found += len(content) if isinstance(content, str) else 0
            if arguments is not None:
                found += len(part["name"])
                found += len(arguments if isinstance(arguments, str) else orjson.dumps(arguments))
    return found
