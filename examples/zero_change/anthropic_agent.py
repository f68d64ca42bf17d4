"""A support agent on the Anthropic SDK, streaming: prints the answer as it comes, runs the tools in between. It does not know Leyden."""

import json
import os

from anthropic import Anthropic
from shop import QUESTION, SCHEMAS, TOOLS

client = Anthropic()
tools = [
    {"name": name, "description": tool.__doc__, "input_schema": SCHEMAS[name]} for name, tool in TOOLS.items()
]
messages = [{"role": "user", "content": QUESTION}]

while True:
    with client.messages.stream(
        model=os.environ.get("MODEL", "claude-haiku-4-5"),
        max_tokens=1000,
        system="You answer customers of a small shop. Look things up; never guess.",
        messages=messages,
        tools=tools,
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)
        said = stream.get_final_message()
    messages.append({"role": "assistant", "content": said.content})
    if said.stop_reason != "tool_use":
        break
    results = [
        {
            "type": "tool_result",
            "tool_use_id": block.id,
            "content": json.dumps(TOOLS[block.name](**block.input)),
        }
        for block in said.content
        if block.type == "tool_use"
    ]
    messages.append({"role": "user", "content": results})

print()
