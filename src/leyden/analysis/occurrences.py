"""Where one thing happened and what that cost: the part that every kind of finding counts the same way."""

from collections import Counter
from dataclasses import dataclass, field

from leyden.analysis.run import ModelCall, Run
from leyden.types import EvidenceSpan, Impact, SpanSummary

EVIDENCE_SPANS = 20
_SPANS_OF_A_RUN = 5
_WORDINGS = 8


@dataclass(slots=True)
class Occurrences:
    """Running count of one thing over many runs, with evidence from up to 20 failed and 20 other runs.

    A rollout counts once as long as its attempts follow each other; it counts as failed when its first seen attempt did.
    """

    count: int = 0
    runs: int = 0
    failed_runs: int = 0
    time_s: float = 0.0
    tokens: int = 0
    cost_usd: float | None = None
    first_seen: float | None = None
    last_seen: float | None = None
    agents: Counter[str] = field(default_factory=Counter[str])
    wordings: Counter[tuple[str | None, str | None]] = field(
        default_factory=Counter[tuple[str | None, str | None]]
    )
    _evidence: dict[bool, list[list[EvidenceSpan]]] = field(default_factory=lambda: {True: [], False: []})
    _last_rollout: str | None = None
    _last_model_call: ModelCall | None = None

    def add(
        self,
        run: Run,
        span: SpanSummary,
        *,
        agent: str | None = None,
        time_s: float | None = None,
        asked_by: ModelCall | None = None,
    ) -> None:
        """Count `span` as one occurrence. `asked_by` is the model call that was spent on it, counted once even when it
        asked for several."""
        self.count += 1
        self.time_s += time_s or 0.0
        self._spend(asked_by)
        if agent is not None and (agent in self.agents or len(self.agents) < _WORDINGS):
            self.agents[agent] += 1
        wording = (span.error_type, span.error_message)
        if wording in self.wordings or len(self.wordings) < _WORDINGS:
            self.wordings[wording] += 1
        self._see(run.start_time if span.start_ns is None else span.start_ns / 1e9)
        kept = self._evidence[run.failed]
        if run.rollout_id != self._last_rollout:
            self._last_rollout = run.rollout_id
            self.runs += 1
            self.failed_runs += run.failed
            if len(kept) < EVIDENCE_SPANS:
                kept.append([])
        here = EvidenceSpan(span.rollout_id, span.attempt_id, span.span_id)
        if kept and len(kept[-1]) < _SPANS_OF_A_RUN and (not kept[-1] or kept[-1][0][0] == here[0]):
            kept[-1].append(here)

    def _spend(self, call: ModelCall | None) -> None:
        if call is None or call is self._last_model_call:
            return
        self._last_model_call = call
        self.time_s += call.duration_s or 0.0
        self.tokens += call.tokens
        if call.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + call.cost_usd

    def _see(self, time: float | None) -> None:
        if time is None:
            return
        self.first_seen = time if self.first_seen is None else min(self.first_seen, time)
        self.last_seen = time if self.last_seen is None else max(self.last_seen, time)

    @property
    def agent(self) -> str | None:
        """The agent it happened to most, None when unknown."""
        return self.agents.most_common(1)[0][0] if self.agents else None

    @property
    def wording(self) -> tuple[str | None, str | None]:
        """The commonest (error type, error message)."""
        return self.wordings.most_common(1)[0][0] if self.wordings else (None, None)

    def impact(self) -> Impact:
        """The counts as a finding states them."""
        return Impact(
            occurrences=self.count,
            runs=self.runs,
            failed_runs=self.failed_runs,
            time_s=round(self.time_s, 6),
            tokens=self.tokens,
            cost_usd=self.cost_usd,
        )

    def evidence(self) -> list[EvidenceSpan]:
        """Up to 20 spans: one of every run before a second of any, failed runs first."""
        by_run = self._evidence[True] + self._evidence[False]
        rounds = (spans[i] for i in range(_SPANS_OF_A_RUN) for spans in by_run if i < len(spans))
        return [span for span, _ in zip(rounds, range(EVIDENCE_SPANS), strict=False)]
