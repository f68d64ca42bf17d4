"""A support agent on the OpenAI SDK: asks the model, runs the tools it calls, until it answers. It does not know Leyden."""

import json
import os

from openai import OpenAI
from shop import QUESTION, SCHEMAS, TOOLS

client = OpenAI()
tools = [
    {
        "type": "function",
        "function": {"name": name, "description": tool.__doc__, "parameters": SCHEMAS[name]},
    }
    for name, tool in TOOLS.items()
]
messages = [
    {"role": "system", "content": "You answer customers of a small shop. Look things up; never guess."},
    {"role": "user", "content": QUESTION},
]

while True:
    answer = client.chat.completions.create(
        model=os.environ.get("MODEL", "gpt-4o-mini"), messages=messages, tools=tools
    )
    said = answer.choices[0].message
    messages.append(said.model_dump(exclude_none=True))
    if not said.tool_calls:
        break
    for call in said.tool_calls:
        result = TOOLS[call.function.name](**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})

print(said.content)
