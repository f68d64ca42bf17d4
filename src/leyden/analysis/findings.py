"""Findings: what is worth fixing, most damaging first.

| kind            | impact counts                           | severity                                                        |
|-----------------|-----------------------------------------|-----------------------------------------------------------------|
| tool_failure    | failed calls of one tool with one error | high: half of the tool's calls fail this way (≥ 3), or ≥ 5 failures of a tool that fails half of its calls or hit by this in a third of the runs that use it; low: under 3 and no run lost |
| error           | other failing spans with one error      | high: in a tenth of all runs (≥ 3); low: under 3 and no run lost |
| failed_rollouts | failed runs without any error           | medium from a tenth of all runs (≥ 3): it names no cause         |
| retry           | retries that failed again               | medium from 5: the cause is a finding of its own                 |
| repeated_call   | calls whose answer was known            | medium from 5                                                    |
| slow            | calls of one tool or model              | tools medium, models low: slow is not broken                     |

What each detects and cannot tell stands in the module that counts it. Time, tokens and cost of a failure, retry or repeat
are those of the calls themselves and of the model calls that asked for them; of `slow`, those of all its calls.

Rank: severity first, then excess failed runs + occurrences × weight. Excess failed runs = failed runs with the finding
− runs with it × the share of all runs that fail, at least 0: when most runs fail anyway, failing beside an error says little.
The weight of a tool failure is the failure rate of the tool (a call that always fails never earns its place); of other
errors and silent failures 0.5; of retries and repeats 0.25 (their cause ranks by itself); `slow` goes by time alone.
Happening together is not cause and effect: `failed_runs` counts, it does not blame.
"""

from hashlib import blake2b
from typing import NamedTuple

from leyden.analysis.bottlenecks import Bottleneck, bottlenecks
from leyden.analysis.failures import Failures, GroupKey
from leyden.analysis.occurrences import Occurrences
from leyden.analysis.recommend import diagnose
from leyden.analysis.repeats import Repeats
from leyden.analysis.retries import Retries, ToolRetries
from leyden.analysis.stats import Tallies, Tally
from leyden.types import Finding, FindingKind, Impact, Severity

_FEW, _SEVERAL = 3, 5
_WEIGHT: dict[FindingKind, float] = {
    "error": 0.5, "failed_rollouts": 0.5, "retry": 0.25, "repeated_call": 0.25, "slow": 0.0,
}  # fmt: skip
_SEVERITY_ORDER: dict[Severity, int] = {"high": 0, "medium": 1, "low": 2}


def fingerprint(kind: str, *parts: str | None) -> str:
    """The name of a finding across runs and weeks: the same kind of thing in the same place with the same error."""
    digest = blake2b(
        "\0".join([kind, *(part or "" for part in parts)]).encode("utf-8", "replace"), digest_size=8
    )
    return "fi-" + digest.hexdigest()


class Weighed(NamedTuple):
    """A finding and what one occurrence of it weighs in the ranking."""

    weight: float
    finding: Finding


def rank(weighed: list[Weighed], *, failure_rate: float) -> list[Finding]:
    """Most damaging first; equal ones by time lost, then by fingerprint, so that the order never depends on chance.

    failure_rate: the share of all runs that failed, 0 to 1.
    """

    def order(item: Weighed) -> tuple[int, float, float, str]:
        impact = item.finding.impact
        excess = max(0.0, impact.failed_runs - impact.runs * failure_rate)
        score = excess + impact.occurrences * item.weight
        return _SEVERITY_ORDER[item.finding.severity], -score, -impact.time_s, item.finding.fingerprint

    return [item.finding for item in sorted(weighed, key=order)]


def from_failures(failures: Failures, tools: dict[str, Tally], *, runs: int) -> list[Weighed]:
    """One finding per group of equal failures, with its score."""
    return [
        _failure(key, group, tools.get(key[1]) if key[0] else None, runs=runs)
        for key, group in failures.groups.items()
    ]


def _failure(key: GroupKey, group: Occurrences, tool: Tally | None, *, runs: int) -> Weighed:
    is_tool, name, error_fingerprint = key
    kind: FindingKind = "tool_failure" if is_tool else "error"
    error_type, message = group.wording
    calls = tool.calls if tool else None
    share = f"{group.count} of {calls} calls" if calls else f"{group.count}×"
    diagnosis = diagnose(name=name, is_tool=is_tool, error_type=error_type, message=message, share=share)
    if tool is not None:
        weight = tool.failures / tool.calls
        is_high = group.count * 2 >= tool.calls or (
            group.count >= _SEVERAL and (weight >= 0.5 or group.runs * 3 >= tool.runs)
        )
    else:
        weight = _WEIGHT["error"]
        is_high = group.runs >= max(runs / 10, _FEW)
    finding = Finding(
        fingerprint=fingerprint(kind, name, error_fingerprint),
        kind=kind,
        severity=_severity(group, is_high=is_high),
        title=f"{name} fails {_in_calls(group.count, calls)}: {_why(diagnosis.label, message or error_type)}",
        recommendation=diagnosis.advice,
        impact=group.impact(),
        agent=group.agent,
        tool=name if is_tool else None,
        error_type=error_type,
        error_message=message,
        evidence=group.evidence(),
        first_seen=group.first_seen,
        last_seen=group.last_seen,
    )
    return Weighed(weight, finding)


def _why(label: str, message: str | None, limit: int = 80) -> str:
    text = " ".join((message or "").split())
    quoted = f"“{text if len(text) <= limit else text[: limit - 1].rstrip() + '…'}”" if text else ""
    return f"{label} ({quoted})" if label and quoted else label or quoted


def _in_calls(count: int, calls: int | None) -> str:
    if calls is None:
        return _times(count)
    return f"in {count} of {calls} calls" if calls > 1 else "in its only call"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _severity(group: Occurrences, *, is_high: bool) -> Severity:
    if group.count < _FEW:
        return "medium" if group.failed_runs else "low"
    return "high" if is_high else "medium"


def from_retries(retries: Retries) -> list[Weighed]:
    """A finding per tool that is retried at least three times and fails again more often than not."""
    return [
        _retry(name, tool)
        for name, tool in retries.tools.items()
        if tool.retried >= _FEW and tool.useless.count * 2 > tool.retried
    ]


def _retry(name: str, tool: ToolRetries) -> Weighed:
    error_type, message = tool.useless.wording
    identical_failed = tool.identical - tool.identical_succeeded
    advice = (
        f"Answer an equal call of {name} right after an error from memory, and say that it fails the same way. Let the "
        "prompt say to change the arguments or the tool after an error."
        if identical_failed * 2 >= tool.useless.count
        else f"Put what a working call of {name} looks like into its error message. The agent varies its calls and still "
        "fails; cap attempts in a row at two."
    )
    group = tool.useless
    finding = Finding(
        fingerprint=fingerprint("retry", name),
        kind="retry",
        severity="medium" if group.count >= _SEVERAL else "low",
        title=f"{name} is retried right after an error and fails again, {group.count} of {tool.retried} times"
        + (f" ({identical_failed} with identical arguments)" if identical_failed else ""),
        recommendation=advice,
        impact=group.impact(),
        agent=group.agent,
        tool=name,
        error_type=error_type,
        error_message=message,
        evidence=group.evidence(),
        first_seen=group.first_seen,
        last_seen=group.last_seen,
    )
    return Weighed(_WEIGHT["retry"], finding)


def from_repeats(repeats: Repeats) -> list[Weighed]:
    """A finding per tool that was called in a loop."""
    return [
        _loop(name, tool.wasted, tool.loop_count) for name, tool in repeats.tools.items() if tool.loop_count
    ]


def _loop(name: str, group: Occurrences, loops: int) -> Weighed:
    finding = Finding(
        fingerprint=fingerprint("repeated_call", name),
        kind="repeated_call",
        severity="medium" if group.count >= _SEVERAL else "low",
        title=f"{name} is called again with the same arguments and the same answer, {_times(group.count)} "
        f"in {loops} loop{'s' if loops != 1 else ''}",
        recommendation=f"Keep {name}'s answer where the agent still sees it, or answer equal calls in one run from a cache. "
        "End the run or change the plan after the third equal call.",
        impact=group.impact(),
        agent=group.agent,
        tool=name,
        evidence=group.evidence(),
        first_seen=group.first_seen,
        last_seen=group.last_seen,
    )
    return Weighed(_WEIGHT["repeated_call"], finding)


def from_silent_failures(silent: Occurrences, *, failed: int, runs: int) -> list[Weighed]:
    """At most one finding: failed runs in which nothing failed. It says how much the other findings do not explain."""
    if not silent.runs:
        return []
    finding = Finding(
        fingerprint=fingerprint("failed_rollouts"),
        kind="failed_rollouts",
        severity="medium" if silent.runs >= max(runs / 10, _FEW) else "low",
        title=f"{silent.runs} of {failed} failed runs contain no error at all"
        if failed > 1
        else "the one failed run contains no error at all",
        recommendation="Read a few of these runs from the end, each beside a run of the same task that succeeded. No call failed in "
        f"{silent.runs / failed:.0%} of the failed runs: the agent decided or answered wrongly, or the scoring did. Score what "
        "they should have done.",
        impact=silent.impact(),
        agent=silent.agent,
        evidence=silent.evidence(),
        first_seen=silent.first_seen,
        last_seen=silent.last_seen,
    )
    return [Weighed(_WEIGHT["failed_rollouts"], finding)]


def from_bottlenecks(tallies: Tallies) -> list[Weighed]:
    """A finding per bottleneck."""
    return [Weighed(_WEIGHT["slow"], _slow(b)) for b in bottlenecks(tallies)]


def _slow(bottleneck: Bottleneck) -> Finding:
    tally = bottleneck.tally
    p50, p95 = tally.latency.quantile(0.5), tally.latency.quantile(0.95)
    spread = (
        f" Half of its calls take up to {_time(p50)}, one in twenty more than {_time(p95)}."
        if p50 and p95
        else ""
    )
    advice = (
        f"Speed up {tally.name}: cache equal calls, run independent ones side by side, ask for less per call."
        if bottleneck.is_tool
        else f"Shorten what {tally.name} reads and writes, cache the stable prefix of its prompts, and use a smaller model for "
        "simple steps. Make independent calls side by side."
    ) + spread
    return Finding(
        fingerprint=fingerprint("slow", "tool" if bottleneck.is_tool else tally.provider, tally.name),
        kind="slow",
        severity="medium" if bottleneck.is_tool else "low",
        title=f"{tally.name} takes {bottleneck.share:.0%} of the time spent in calls",
        recommendation=advice,
        impact=Impact(
            occurrences=tally.calls,
            runs=tally.runs,
            failed_runs=tally.failed_runs,
            time_s=round(tally.own_time_s, 6),
            tokens=(tally.input_tokens or 0) + (tally.output_tokens or 0),
            cost_usd=tally.cost_usd,
        ),
        tool=tally.name if bottleneck.is_tool else None,
        evidence=[span for _, span in sorted(tally.slowest, reverse=True)],
        first_seen=None if tally.first_ns is None else tally.first_ns / 1e9,
        last_seen=None if tally.last_ns is None else tally.last_ns / 1e9,
    )


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 else f"{seconds * 1000:.1f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
