"""How much of a request repeats one before it: what a provider's prompt cache, or a model server's prefix cache, could have known. Pure.

Measured in bytes of what comes first: tools, system prompt, messages, in that order, message by message. A conversation may branch
(sub-agents, retries), so a request is compared with the last few of its rollout, and the longest match counts.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from leyden.ingest.shapes import is_list

REMEMBERED = 4  # requests of one rollout
ROLLOUTS = 4096

Pieces = tuple[tuple[int, int], ...]
"""(hash, bytes) of each piece of a request."""


class Prefixes:
    """The last requests of each rollout, as hashes."""

    def __init__(self, rollouts: int = ROLLOUTS) -> None:
        self._limit = rollouts
        self._lately: OrderedDict[str, list[Pieces]] = OrderedDict()

    def share(self, rollout_id: str, body: Mapping[str, Any]) -> float | None:
        """Share of a request (0 to 1) that repeats the beginning of an earlier one; None for the first of its rollout."""
        pieces = pieces_of(body)
        before = self._lately.setdefault(rollout_id, [])
        self._lately.move_to_end(rollout_id)
        if len(self._lately) > self._limit:
            self._lately.popitem(last=False)
        size = sum(length for _, length in pieces)
        share = max(_common(pieces, other) for other in before) / size if before and size else None
        before.append(pieces)
        del before[:-REMEMBERED]
        return share


def pieces_of(body: Mapping[str, Any]) -> Pieces:
    """A request's pieces in the order in which a model reads them."""
    said = body.get("messages", body.get("input", body.get("prompt")))
    listed = said if is_list(said) else [said]
    whole = [body.get("tools"), body.get("system", body.get("instructions")), *listed]
    dumped = [orjson.dumps(piece, option=orjson.OPT_NON_STR_KEYS) for piece in whole if piece is not None]
    return tuple((hash(piece), len(piece)) for piece in dumped)


def _common(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> int:
    size = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        size += mine[1]
    return size
