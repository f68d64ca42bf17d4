"""One session of the real Claude Code CLI, in a process of its own: `python claude_session.py FOLDER BASE_URL PROXY PROMPT`.

Prints what the CLI sends as JSON lines: {"type", "text"} of each answer, then {"type": "result", "subtype", "text"}.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, HookMatcher, ResultMessage


async def session(folder: Path, base_url: str, proxy: str, prompt: str) -> None:
    for name in ("home", "work"):
        (folder / name).mkdir()
    stopped = asyncio.Event()

    async def observe(hook: Any, tool_use_id: str | None, context: Any) -> Any:
        stopped.set()
        return {}

    options = ClaudeAgentOptions(
        cwd=folder / "work",
        setting_sources=[],
        allowed_tools=["Bash", "Agent"],
        max_turns=8,
        hooks={"SubagentStop": [HookMatcher(hooks=[observe])]},
        env={
            "ANTHROPIC_BASE_URL": base_url,
            "ANTHROPIC_API_KEY": "dummy",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder),
            "CLAUDE_CODE_TMPDIR": str(folder),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            # Whatever wants to leave this machine is seen at the proxy.
            "HTTP_PROXY": proxy,
            "HTTPS_PROXY": proxy,
            "NO_PROXY": "127.0.0.1",
        },
    )
    async with ClaudeSDKClient(options=options) as client:
        await client.query(prompt)
        async for message in client.receive_response():
            if isinstance(message, AssistantMessage):
                texts = [text for block in message.content if (text := getattr(block, "text", None))]
                print(json.dumps({"type": "answer", "text": "".join(texts)}))
            elif isinstance(message, ResultMessage):
                print(json.dumps({"type": "result", "subtype": message.subtype, "text": message.result}))
        # The sub-agent runs in the background and outlives the answer.
        await asyncio.wait_for(stopped.wait(), 20)


if __name__ == "__main__":
    asyncio.run(session(Path(sys.argv[1]), *sys.argv[2:]))
