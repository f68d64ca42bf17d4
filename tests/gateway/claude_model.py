"""A model that Claude Code talks to: says a sentence, runs Bash, starts a sub-agent that runs Bash, ends. Keeps no state, so that a
repeated call gets the same answer."""

import json
from typing import Any
from uuid import uuid4

from fakes.model_answers import event
from fakes.model_server import Answer, Request, answer, stream

SUBTASK = "SUBTASK run false"
PROMPT = "MAINPROMPT please"
MAIN: list[list[Any]] = [
    ["I will look.", ("Bash", {"command": "echo found", "description": "works"})],
    [("Agent", {"description": "sub", "prompt": SUBTASK, "subagent_type": "general-purpose"})],
    ["Done."],
]
SUB: list[list[Any]] = [[("Bash", {"command": "false", "description": "fails"})], ["sub done"]]
USAGE = {"input_tokens": 1000, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 200}


def said_next(body: dict[str, Any]) -> list[Any]:
    """The blocks of the next answer: the place in the script is the number of answers given."""
    if not body.get("tools"):
        return ["ok"]
    first = json.dumps(body["messages"][0])
    script = SUB if SUBTASK in first and PROMPT not in first else MAIN
    answers = sum(message["role"] == "assistant" for message in body["messages"])
    return script[min(answers, len(script) - 1)]


def claude(request: Request) -> Answer:
    """What the scripted model answers."""
    if not request.path.endswith("/messages"):
        return answer({"input_tokens": 1, "data": []})
    body = request.json
    blocks = said_next(body)
    head = {"id": f"msg_{uuid4().hex[:20]}", "type": "message", "role": "assistant", "model": body["model"]}
    started = head | {"content": [], "stop_reason": None, "usage": USAGE | {"output_tokens": 1}}
    stop = "end_turn" if all(isinstance(block, str) for block in blocks) else "tool_use"
    events = [
        {"type": "message_start", "message": started},
        *(piece for index, block in enumerate(blocks) for piece in _block(index, block)),
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": 40},
        },
        {"type": "message_stop"},
    ]
    if not body.get("stream"):
        content = [{"type": "text", "text": block} for block in blocks if isinstance(block, str)]
        return answer(
            head | {"content": content, "stop_reason": stop, "usage": USAGE | {"output_tokens": 40}}
        )
    return stream(*map(event, events))


def _block(index: int, block: Any) -> list[dict[str, Any]]:
    if isinstance(block, str):
        start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block}
    else:
        start = {"type": "tool_use", "id": f"toolu_{uuid4().hex[:20]}", "name": block[0], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block[1])}
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        {"type": "content_block_delta", "index": index, "delta": delta},
        {"type": "content_block_stop", "index": index},
    ]
