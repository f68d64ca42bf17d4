"""Run one real Claude Code session against a scripted model on loopback: `python scripted_claude.py FOLDER`.

Writes FOLDER/home (the CLI's home, with its session logs) and FOLDER/hooks.jsonl. The model says a sentence and calls Bash twice
in one answer (the first fails), then starts a sub-agent whose Bash command fails, then ends. Nothing leaves the machine.
"""

import asyncio
import json
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, HookMatcher

SUBTASK = "SUBTASK run false"
MAIN = [
    [
        "I will look.",
        ("Bash", {"command": "ls missing_dir", "description": "fails"}),
        ("Bash", {"command": "echo ok", "description": "works"}),
    ],
    [("Agent", {"description": "sub", "prompt": SUBTASK, "subagent_type": "general-purpose"})],
    ["Done."],
]
SUB = [[("Bash", {"command": "false", "description": "fails"})], ["sub done"]]
USAGE = {"input_tokens": 1000, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 200}
HOOKS = (
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "SubagentStart",
    "SubagentStop",
)


def blocks(body: dict[str, Any]) -> list[Any]:
    """What the model says next: its place in the script is the number of answers it has given."""
    if not body.get("tools"):
        return ["ok"]
    first = json.dumps(body["messages"][0])
    script = SUB if SUBTASK in first and "MAINPROMPT" not in first else MAIN
    answers = sum(message["role"] == "assistant" for message in body["messages"])
    return script[min(answers, len(script) - 1)]


class ScriptedModel(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
            return self.json({"input_tokens": 1})
        said = blocks(body)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        message = {
            "id": f"msg_{uuid.uuid4().hex[:20]}",
            "type": "message",
            "role": "assistant",
            "content": [],
        }
        usage = {**USAGE, "output_tokens": 1}
        self.event("message_start", message={**message, "model": body["model"], "usage": usage})
        for index, block in enumerate(said):
            self.block(index, block)
        stop = "end_turn" if all(isinstance(block, str) for block in said) else "tool_use"
        self.event(
            "message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 40}
        )
        self.event("message_stop")
        self.wfile.write(b"0\r\n\r\n")
        return None

    def block(self, index: int, block: Any) -> None:
        if isinstance(block, str):
            start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block}
        else:
            call = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:20]}", "name": block[0], "input": {}}
            start, delta = call, {"type": "input_json_delta", "partial_json": json.dumps(block[1])}
        self.event("content_block_start", index=index, content_block=start)
        self.event("content_block_delta", index=index, delta=delta)
        self.event("content_block_stop", index=index)

    def event(self, name: str, **fields: Any) -> None:
        text = f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))

    def json(self, value: object) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        self.json({"data": []})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


async def session(folder: Path, port: int) -> None:
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    stopped = asyncio.Event()
    with (folder / "hooks.jsonl").open("w") as hooks:

        async def observe(hook: Any, tool_use_id: str | None, context: Any) -> Any:
            hooks.write(json.dumps({"input": hook, "tool_use_id": tool_use_id}) + "\n")
            if hook["hook_event_name"] == "SubagentStop":
                stopped.set()
            return {}

        options = ClaudeAgentOptions(
            cwd=work,
            setting_sources=[],
            allowed_tools=["Bash", "Agent"],
            max_turns=8,
            hooks={event: [HookMatcher(hooks=[observe])] for event in HOOKS},
            env={
                "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
                "ANTHROPIC_API_KEY": "dummy",
                "HOME": str(home),
                "TMPDIR": str(folder),
                "CLAUDE_CODE_TMPDIR": str(folder),
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
            },
        )
        async with ClaudeSDKClient(options=options) as client:
            await client.query("MAINPROMPT please")
            async for _ in client.receive_response():
                pass
            # The sub-agent runs in the background and outlives the answer.
            await asyncio.wait_for(stopped.wait(), 10)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asyncio.run(session(Path(sys.argv[1]), server.server_port))
