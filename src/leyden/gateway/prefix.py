"""How much of a request repeats one before it: what a provider's prompt cache, or a model server's prefix cache, could have known. Pure.

Measured in bytes of what comes first: tools, system prompt, messages, in that order, message by message. A conversation may branch
(sub-agents, retries), so a request is compared with the last few of its rollout, and the longest match counts.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

import orjson

from leyden.ingest.shapes import is_list

REMEMBERED = 4  # requests of one rollout
ROLLOUTS = 4096
MOST_PIECES = 4096  # of one request; beyond, nothing is measured
MOST_HELD = 2**21  # pieces of all that is remembered: 32 MiB

Pieces: TypeAlias = "array[int]"
"""Hash and bytes of each piece of a request, one after the other: sixteen bytes for a piece."""


class Prefixes:
    """The last requests of each rollout, as hashes; those of the rollouts that were not heard of for longest are forgotten first."""

    def __init__(self, rollouts: int = ROLLOUTS, *, most_held: int = MOST_HELD) -> None:
        self._limit, self._most_held = rollouts, most_held
        self._lately: OrderedDict[str, list[Pieces]] = OrderedDict()
        self._held = 0  # numbers, two for a piece

    def share(self, rollout_id: str, body: Mapping[str, Any]) -> float | None:
        """Share of a request (0 to 1) that repeats the beginning of an earlier one; None for the first of its rollout, and for one of more
        than `MOST_PIECES` messages."""
        pieces = pieces_of(body)
        if pieces is None:
            return None
        before = self._lately.setdefault(rollout_id, [])
        self._lately.move_to_end(rollout_id)
        size = sum(pieces[1::2])
        share = max(_common(pieces, other) for other in before) / size if before and size else None
        before.append(pieces)
        self._held += len(pieces)
        if len(before) > REMEMBERED:
            self._held -= len(before.pop(0))
        while len(self._lately) > self._limit or (self._held > 2 * self._most_held and len(self._lately) > 1):
            self._held -= sum(map(len, self._lately.popitem(last=False)[1]))
        return share


def pieces_of(body: Mapping[str, Any]) -> "Pieces | None":
    """A request's pieces in the order in which a model reads them; None when they are too many."""
    said = body.get("messages", body.get("input", body.get("prompt")))
    if is_list(said) and len(said) > MOST_PIECES:
        if not isinstance(said[0], int):
            return None
        said = [said]  # token ids are one piece, however many
    listed = said if is_list(said) else [said]
    found: Pieces = array("q")
    for piece in (body.get("tools"), body.get("system", body.get("instructions")), *listed):
        if piece is not None:
            dumped = orjson.dumps(piece, option=orjson.OPT_NON_STR_KEYS)
            found.extend((hash(dumped), len(dumped)))
    return found


def _common(one: Pieces, other: Pieces) -> int:
    size = 0
    for mine, theirs in zip(_pairs(one), _pairs(other), strict=False):
        if mine != theirs:
            break
        size += mine[1]
    return size


def _pairs(pieces: Pieces) -> Iterator[tuple[int, int]]:
    return zip(islice(pieces, 0, None, 2), islice(pieces, 1, None, 2), strict=True)
