"""What to do about a failure, from the words of its error.

`diagnose` walks a table of (pattern, label, advice) from the specific to the general; the first match wins. The words are
those that Python, HTTP clients, model providers and agent frameworks use. Nothing matches: the advice names the tool, the
message and its share, and promises no more than that.
Cannot tell: causes that the message does not name.
"""

import re
from typing import NamedTuple


class Diagnosis(NamedTuple):
    """A label of a few words and one sentence of advice."""

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
        "The agent calls {name} with arguments it does not take{argument}. Make the tool's schema and description say "
        "exactly which arguments it takes (also when there are none), or have it accept and ignore extra ones. "
        "Trying again does not help.",
    ),
    _rule(
        r"validation error|failed validation|invalid (?:argument|parameter|input|arguments|params)|json ?schema|schema validation|field required"
        r"|InputValidationError|missing required|is not of type|jsondecodeerror|(?:invalid|malformed) json",
        "arguments fail validation",
        "The agent passes arguments that {name} refuses. Put the types, formats and an example call into the tool's "
        "description, use strict (schema-constrained) tool calls where the model offers them, and name the wrong field in the error.",
    ),
    _rule(
        r"unknown tool|no such tool|tool .{0,60}(?:not found|does not exist|not available)|unknown function",
        "tool does not exist",
        "The agent calls a tool named {name} that it was not given. Offer the tool, or remove its name from the prompt.",
    ),
]

_RULES = [
    _rule(
        r"InterpreterError|SyntaxError|IndentationError|code execution failed|code parsing",
        "generated code fails",
        "Code written by the agent fails in {name}: “{message}”. Say in the prompt which modules and functions may be "
        "used and how they are called, and show an example that works.",
    ),
    _rule(
        rf"rate.?limit|too many requests|quota|overloaded|{_http('429|529')}",
        "rate limit",
        "{name} is asked more often than its service allows. Limit concurrency, wait as long as Retry-After says "
        "before the next call, cache equal answers, or raise the quota.",
    ),
    _rule(
        rf"timed?[ -]?out|deadline exceeded|{_http('504')}",
        "timeout",
        "{name} does not answer in time. Measure how long it really needs, set its timeout above that, ask for less per "
        "call, and let the agent go on without the answer.",
    ),
    _rule(
        rf"unauthori[sz]ed|forbidden|authenticat|api[ _-]?key|permission|access denied|credential|expired token|{_http('401|403')}",
        "no permission",
        "{name} is refused for lack of permission. Check the key, its scopes and its expiry; the agent cannot fix this by "
        "trying again, so tell it to stop and report.",
    ),
    _rule(
        r"context.{0,12}(?:length|window)|maximum context|too many tokens|max(?:imum)?[ _]tokens|prompt is too long",
        "context too long",
        "The request to {name} exceeds the context window. Shorten tool results before they enter the conversation, or "
        "summarise old turns.",
    ),
    _rule(
        r"content.?(?:filter|policy)|invalid prompt|safety system|usage policy|responsible ai",
        "refused by the provider's policy",
        "The provider refused what was sent to {name}. Look at the prompt in the evidence, reword it, or route these "
        "inputs to another model.",
    ),
    _rule(
        r"unsupported.{0,20}(?:format|type|file|media)|(?:format|type|file|extension).{0,80}not supported|type was not recognized"
        r"|could not convert (?!string)",
        "unsupported format",
        "{name} is given files it cannot read. List the formats it reads in its description, say in the error which tool "
        "reads the others, or add a converter for the formats that occur in the evidence.",
    ),
    _rule(
        r"no results? (?:were )?found|no match(?:es)? found|returned no results|0 results",
        "nothing found",
        "Searches with {name} come back empty. Tell the agent in the tool's description to use short queries without "
        "operators or quotes, and let the tool relax a query by itself before it gives up.",
    ),
    _rule(
        r"connection (?:error|refused|reset|aborted|closed)|ConnectionError|ECONN|unreachable|name resolution|\bdns\b|bad gateway"
        rf"|service unavailable|internal server error|{_http('500|502|503')}",
        "service unavailable",
        "The service behind {name} fails or cannot be reached. Retry with growing pauses and a limit, check the service, "
        "and give the agent another source.",
    ),
    _rule(
        r"no such file|file ?not ?found|not found|does not exist|doesn't exist|unknown (?:id|user|file|path)|"
        + _http("404"),
        "not found",
        "The agent asks {name} for things that do not exist. Let it look up valid names first (a list or search tool), "
        "and answer an unknown one with the closest that exist.",
    ),
    _rule(
        r"not available|not enough|insufficient|sold out|out of stock|unavailable",
        "not available or not enough",
        "The agent asks {name} for something that cannot be had: “{message}”. Have the prompt require a check of "
        "availability, balance or stock before this call, and return what is possible with the error.",
    ),
    _rule(
        r"does not add up|must (?:be|equal|match)|mismatch|cannot be used|is not allowed|not permitted|only (?:be )?allowed|invalid",
        "refused by a rule",
        "{name} refuses calls that break a rule: “{message}”. State the rule in the tool's description, have the "
        "agent compute and check the values before the call, and return the expected value with the error.",
    ),
    _rule(
        r"UnboundLocalError|NameError|AttributeError|NoneType|KeyError|IndexError|ZeroDivisionError|RecursionError|AssertionError"
        r"|NotImplemented|TypeError|ImportError|ModuleNotFoundError|segmentation fault",
        "bug inside the code",
        "{name} breaks in its own code: “{message}”. Fix the code and add a test with the input from the evidence; no "
        "prompt can work around it reliably.",
    ),
    _rule(
        r"command (?:failed|not found)|exit (?:code|status)|non-zero",
        "command fails",
        "Commands written by the agent fail in {name}: “{message}”. Say in the prompt which commands exist in its "
        "environment, and return the last lines of their output with the error.",
    ),
]


def diagnose(
    *, name: str, is_tool: bool, error_type: str | None, message: str | None, share: str
) -> Diagnosis:
    """The first rule that matches the error; a fallback that names the tool, the message and its share.

    name: the tool, model or span. share: how often it happens, in words ("39 of 40 calls").
    """
    text = f"{error_type or ''}: {message or ''}"
    for rule in _TOOL_RULES + _RULES if is_tool else _RULES:
        if rule.pattern.search(text):
            advice = rule.advice.format(name=name, message=_short(message), argument=_argument(text))
            return Diagnosis(rule.label, advice)
    if not message and not error_type:
        return Diagnosis(
            "no message",
            f"{name} fails ({share}) without saying why. Return a message that names what was wrong and what to do, so that the agent "
            "and this analysis can tell causes apart.",
        )
    return Diagnosis(
        "error",
        f"{name} fails with “{_short(message or error_type)}” ({share}). Open the evidence, find what these calls have in "
        "common, and fix the tool or say in its description how to avoid it.",
    )


def _short(message: str | None, limit: int = 90) -> str:
    text = " ".join((message or "no message").split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _argument(text: str) -> str:
    found = re.search(r"unexpected keyword argument '([^']{0,60})'", text)
    if not found:
        return ""
    return f" (such as “{found[1]}”)" if found[1] else " (one has an empty name)"
