"""Where a call may go, best place first: aliases, priorities, weights, one home per rollout, ejected upstreams last.

Pure: health, chance and time are passed in. Promises: a rollout keeps its home while its targets stay the same, and of N equal
replicas a new one takes about one rollout in N + 1 from the others and moves no rollout between them (rendezvous hashing,
Thaler & Ravishankar 1998, weighted by Schindelhauer & Schomaker 2005). Refuses to know: sockets, bodies.
"""

import math
import random
from difflib import get_close_matches
from hashlib import blake2b
from typing import NamedTuple

from leyden.errors import NotFound
from leyden.gateway.call import Door, Family
from leyden.gateway.config import GatewayConfig, Model, ModelTarget
from leyden.gateway.health import Health

# Names that clients make up must not fill the memory: beyond this many the known ones are forgotten and found again.
_REMEMBERED = 4096
_PASSING: frozenset[Door] = frozenset({"models", "other"})
_WHOSE: dict[Family, str] = {"openai": "OpenAI's", "anthropic": "Anthropic's"}


class Target(NamedTuple):
    """One place where a call may go. upstream: its name in the configuration. model: as the upstream knows it.

    family: the protocol that is spoken with it. needs_translation: the upstream does not serve the door that the call came in by,
    so its request and answer are translated into that protocol. alias: the key of `models` that led here.
    """

    upstream: str
    model: str
    family: Family
    needs_translation: bool
    alias: str
    weight: float = 1.0
    priority: int = 0


class Router:
    """The aliases of one configuration."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        # The longest text around the star is the most exact: "gpt-4o-*" before "gpt-*" before "*".
        self._patterns = sorted((name for name in config.models if "*" in name), key=len, reverse=True)
        self._targets: dict[tuple[str, Door, Family], list[Target]] = {}

    def plan(
        self,
        model: str,
        door: Door,
        *,
        family: Family,
        rollout_id: str | None,
        health: Health,
        rng: random.Random,
        now: float,
    ) -> list[Target]:
        """All targets of a model in the order in which they are to be tried; never empty.

        family: the client's, for the doors that both have. With a rollout and `sticky` the order is the rollout's own, else it is drawn
        by weight. An upstream that is ejected or rests comes last. Raises NotFound for a model that no alias covers.
        """
        targets = self.targets(model, door, family=family)
        if len(targets) == 1:
            return targets
        sticky_to = rollout_id if self._config.gateway.sticky else None
        ranked = [
            (
                not health.is_available(target.upstream, now=now),
                target.priority,
                -_rank(target, sticky_to, rng),
                i,
            )
            for i, target in enumerate(targets)
        ]
        return [targets[i] for *_, i in sorted(ranked)]

    def targets(self, model: str, door: Door, *, family: Family) -> list[Target]:
        """The targets of a model as the configuration lists them. Raises NotFound."""
        key = (model, door, family)
        found = self._targets.get(key)
        if found is None:
            found = (
                self._passing(model, door, family)
                if door in _PASSING
                else self._of_alias(model, door, family)
            )
            if len(self._targets) >= _REMEMBERED:
                self._targets.clear()
            self._targets[key] = found
        return found

    def _of_alias(self, model: str, door: Door, family: Family) -> list[Target]:
        alias, matched = self.alias(model)
        return [
            self._target(alias, each, model=model, matched=matched, door=door, family=family)
            for each in self._config.models[alias].targets
        ]

    def _passing(self, model: str, door: Door, family: Family) -> list[Target]:
        """Where calls pass that nobody translates: to those targets of the model that speak the client's protocol.

        What names no model, such as a file, goes to the first upstream of that protocol, where the client finds it again.
        """
        names = (
            [target.upstream for target in self._of_alias(model, door, family)]
            if model
            else self._config.upstreams
        )
        passing = [name for name in names if self._passes(name, door, family)]
        if not passing:
            raise NotFound(
                f"No upstream {f'of the model {_shortened(model)!r} ' if model else ''}takes this call: it belongs to "
                f"{_WHOSE[family]} API, and is not translated",
                hint="configure an upstream that speaks it itself",
            )
        if not model:
            return [Target(passing[0], "", family, False, "")]
        return [target for target in self._of_alias(model, door, family) if target.upstream in passing]

    def lists_models(self, family: Family) -> bool:
        """Whether an upstream can be asked for its models by a client of this protocol."""
        return any(self._passes(name, "models", family) for name in self._config.upstreams)

    def _passes(self, upstream: str, door: Door, family: Family) -> bool:
        known = self._config.upstreams[upstream]
        return door in known.doors and known.family == family

    def alias(self, model: str) -> tuple[str, str]:
        """The key of `models` that covers a model's name, and what its star stands for: the whole name when it has none.

        Raises NotFound that lists what there is.
        """
        if model in self._config.models:
            return model, model
        for pattern in self._patterns:
            before, _, after = pattern.partition("*")
            if len(model) >= len(pattern) - 1 and model.startswith(before) and model.endswith(after):
                return pattern, model[len(before) : len(model) - len(after)]
        raise _unknown(model, list(self._config.models))

    def model(self, alias: str) -> Model:
        """What an alias says beside its targets: parameters, defaults, deployment, system_template."""
        return self._config.models[alias]

    def _target(
        self, alias: str, target: ModelTarget, *, model: str, matched: str, door: Door, family: Family
    ) -> Target:
        upstream = self._config.upstreams[target.upstream]
        spoken = family_of(door, family)
        name = model if target.model is None else target.model.replace("*", matched)
        is_served = door in upstream.doors
        return Target(
            upstream=target.upstream,
            model=name,
            family=spoken if is_served and door != "models" else upstream.family,
            needs_translation=not is_served,
            alias=alias,
            weight=target.weight,
            priority=target.priority,
        )


def family_of(door: Door, family: Family) -> Family:
    """The protocol that a door belongs to; `family` for the list of models and the rest, which both have."""
    if door in ("models", "other"):
        return family
    return "anthropic" if door in ("messages", "count_tokens") else "openai"


def _rank(target: Target, rollout_id: str | None, rng: random.Random) -> float:
    """Higher goes first. With u evenly distributed on (0, 1), −w / ln u puts each target first as often as its weight says."""
    u = (
        1.0 - rng.random()
        if rollout_id is None
        else _evenly(f"{rollout_id}\0{target.upstream}\0{target.model}")
    )
    return target.weight / -math.log(u) if u < 1.0 else math.inf


def _evenly(text: str) -> float:
    """A number in (0, 1) that is the same for the same text on every machine."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return (int.from_bytes(digest) + 0.5) / 2.0**56


def _unknown(model: str, known: list[str]) -> NotFound:
    close = get_close_matches(model, known, n=3)
    listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    meant = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    return NotFound(
        f"The model {_shortened(model)!r} does not exist here",
        hint=f"{meant}configured are: {listed or 'none'}",
    )


def _shortened(name: str) -> str:
    return name if len(name) <= 100 else f"{name[:99]}…"
