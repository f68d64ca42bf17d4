"""What to do about a failure, from the words of its error.

Advice begins with one sentence that says what to do; a report puts that sentence first.
`diagnose` walks a table of (pattern, label, advice) from the specific to the general; the first match wins. The words are
those that Python, HTTP clients, model providers and agent frameworks use. Nothing matches: the advice names the tool, the
message and its share, and promises no more than that.
Cannot tell: causes that the message does not name.
"""

import re
from functools import lru_cache
from typing import NamedTuple


class Diagnosis(NamedTuple):
    """A label of a few words, "" for an error that no rule knows, and advice whose first sentence is the thing to do."""

    label: str
    advice: str


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    label: str
    advice: str


def _rule(pattern: str, label: str, advice: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), label, advice)


def _http(codes: str) -> str:
    # Bare numbers are prices and counts more often than status codes: "total price is 403".
    return rf"(?:http|status|code)\W{{0,4}}(?:code)?\W{{0,4}}(?:{codes})\b"


# Order matters: "got an unexpected keyword argument" is also a TypeError, and a 429 is also a client error.
_TOOL_RULES = [
    _rule(
        r"unexpected keyword argument|got multiple values for argument|takes (?:from )?\d+ .{0,40}positional argument"
        r"|missing \d+ required (?:positional|keyword)",
        "tool signature mismatch",
        "Make the schema of {name} list exactly the arguments it takes, also when there are none. The "
        "agent passes arguments that it does not take{argument}; accepting and ignoring those helps as "
        "well. Trying again does not help.",
    ),
    _rule(
        r"validation error|failed validation|invalid (?:argument|parameter|input|arguments|params)|json ?schema|schema validation|field required"
        r"|InputValidationError|missing required|is not of type|jsondecodeerror|(?:invalid|malformed) json",
        "arguments fail validation",
        "State types and formats of {name}'s arguments in its description, with an example call. Use "
        "strict (schema-constrained) tool calls where the model offers them, and name the wrong field in "
        "the error.",
    ),
    _rule(
        r"unknown tool|no such tool|tool .{0,60}(?:not found|does not exist|not available)|unknown function",
        "tool does not exist",
        "Offer a tool named {name}, or take its name out of the prompt. The agent calls it and was not "
        "given it.",
    ),
]

_COMMAND_FAILS = (
    "Say in the prompt which commands and paths exist where {name} runs. Return the last lines of their "
    "output with the error."
)

_RULES = [
    _rule(
        r"^[^:]*: exit (?:code|status) [1-9]",
        "command fails",
        _COMMAND_FAILS,
    ),
    _rule(
        r"InterpreterError|SyntaxError|IndentationError|code execution failed|code parsing",
        "generated code fails",
        "Say in the prompt which modules and functions code run in {name} may use, with an example that "
        "works. Return the error with the line that caused it; the agent wrote that code.",
    ),
    _rule(
        rf"rate.?limit|too many requests|quota|overloaded|{_http('429|529')}",
        "rate limit",
        "Ask {name} less often: limit concurrency, wait as long as Retry-After says, cache equal answers. "
        "Or raise the quota.",
    ),
    _rule(
        rf"timed?[ -]?out|deadline exceeded|{_http('504')}",
        "timeout",
        "Measure how long {name} really needs, and set its timeout above that. Ask for less per call, and "
        "let the agent go on without the answer.",
    ),
    _rule(
        rf"unauthori[sz]ed|forbidden|authenticat|api[ _-]?key|permission|access denied|credential|expired token|{_http('401|403')}",
        "no permission",
        "Check the key of {name}, its scopes and its expiry. The agent cannot fix this by trying again, "
        "so tell it to stop and report.",
    ),
    _rule(
        r"context.{0,12}(?:length|window)|maximum context|too many tokens|max(?:imum)?[ _]tokens|prompt is too long",
        "context too long",
        "Shorten what {name} is sent: cut tool results before they enter the conversation, summarise old "
        "turns. The request exceeds the context window.",
    ),
    _rule(
        r"content.?(?:filter|policy)|invalid prompt|safety system|usage policy|responsible ai",
        "refused by the provider's policy",
        "Reword what {name} is sent, or route such inputs to another model. The prompt that the provider "
        "refused is in the evidence.",
    ),
    _rule(
        r"unsupported.{0,20}(?:format|type|file|media)|(?:format|type|file|extension).{0,80}not supported|type was not recognized"
        r"|could not convert (?!string)",
        "unsupported format",
        "List the formats that {name} reads in its description. Say in the error which tool reads the "
        "others, or add a converter for the formats that occur in the evidence.",
    ),
    _rule(
        r"no results? (?:were )?found|no match(?:es)? found|returned no results|0 results",
        "nothing found",
        "Tell the agent in {name}'s description to search with few words, without operators or quotes. "
        "Let the tool relax a query by itself before it gives up.",
    ),
    _rule(
        r"connection (?:error|refused|reset|aborted|closed)|ConnectionError|ECONN|unreachable|name resolution|\bdns\b|bad gateway"
        rf"|service unavailable|internal server error|{_http('500|502|503')}",
        "service unavailable",
        "Check the service behind {name}, and try again with growing pauses and a limit. Give the agent "
        "another source.",
    ),
    _rule(
        r"no such file|file ?not ?found|not found|does not exist|doesn't exist|unknown (?:id|user|file|path)|"
        + _http("404"),
        "not found",
        "Let the agent look up valid names before it calls {name}, with a list or search tool. Answer an "
        "unknown name with the closest that exist.",
    ),
    _rule(
        r"not available|not enough|insufficient|sold out|out of stock|unavailable|already (?:booked|reserved|taken|in use)|over capacity",
        "not available or not enough",
        "Have the prompt require a check of what can be had (availability, balance, stock) before {name}. "
        "Return what is possible with the error.",
    ),
    _rule(
        r"does not add up|must (?:be|equal|match)|mismatch|cannot be used|is not allowed|not permitted|only (?:be )?allowed|invalid",
        "refused by a rule",
        "State the rule in {name}'s description, and have the agent check its values before the call. "
        "Return the expected value with the error.",
    ),
    _rule(
        r"UnboundLocalError|NameError|AttributeError|NoneType|KeyError|IndexError|ZeroDivisionError|RecursionError|AssertionError"
        r"|NotImplemented|TypeError|ImportError|ModuleNotFoundError|segmentation fault",
        "bug inside the code",
        "Fix the code of {name}, and add a test with the input from the evidence. No prompt can work "
        "around it reliably.",
    ),
    _rule(
        r"command (?:failed|not found)|exit (?:code|status)|non-zero",
        "command fails",
        _COMMAND_FAILS,
    ),
]

# Each of these errors quotes code, sizes or ids of its own: grouped by their words, one problem would be many findings.
_ONE_CAUSE = frozenset({"generated code fails", "rate limit", "timeout", "context too long"})


def diagnose(
    *, name: str, is_tool: bool, error_type: str | None, message: str | None, share: str
) -> Diagnosis:
    """The first rule that matches the error; a fallback that names the tool, the message and its share.

    name: the tool, model or span. share: how often it happens, in words ("39 of 40 calls").
    """
    if rule := _matching(is_tool, error_type, message):
        argument = _argument(message or "")
        return Diagnosis(rule.label, rule.advice.format(name=name, argument=argument))
    if not message and not error_type:
        return Diagnosis(
            "no message",
            f"Have {name} say what is wrong and what to do when it fails. It fails ({share}) without a message, so neither the "
            "agent nor this analysis can tell causes apart.",
        )
    remedy = "then fix it or say in its description how to avoid this" if is_tool else "and fix their cause"
    return Diagnosis(
        "",
        f"Find what the failing calls of {name} have in common, {remedy}. They fail with “{_short(message or error_type)}” ({share}).",
    )


def one_cause(*, is_tool: bool, error_type: str | None, message: str | None) -> str | None:
    """The label of an error that is the same problem however it is worded, such as a rate limit; None for all others."""
    rule = _matching(is_tool, error_type, message)
    return rule.label if rule and rule.label in _ONE_CAUSE else None


@lru_cache(maxsize=1024)
def _matching(is_tool: bool, error_type: str | None, message: str | None) -> _Rule | None:
    text = f"{error_type or ''}: {message or ''}"
    return next(
        (rule for rule in (_TOOL_RULES + _RULES if is_tool else _RULES) if rule.pattern.search(text)), None
    )


def _short(message: str | None, limit: int = 90) -> str:
    text = " ".join((message or "no message").split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _argument(text: str) -> str:
    found = re.search(r"unexpected keyword argument '([^']{0,60})'", text)
    if not found:
        return ""
    return f" (such as “{found[1]}”)" if found[1] else " (one has an empty name)"
