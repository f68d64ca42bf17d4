"""A support agent as a LangGraph graph: a node that asks the model, a node that runs its tools. It does not know Leyden."""

import os

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from shop import QUESTION, days_to, look_up_order

TOOLS = [look_up_order, days_to]
model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-4o-mini")).bind_tools(TOOLS)


def ask(state: MessagesState) -> dict[str, object]:
    """One model call on the conversation so far."""
    return {"messages": [model.invoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("ask", ask)
graph.add_node("tools", ToolNode(TOOLS))
graph.add_edge(START, "ask")
graph.add_conditional_edges("ask", tools_condition)
graph.add_edge("tools", "ask")

question = [
    ("system", "You answer customers of a small shop. Look things up; never guess."),
    ("user", QUESTION),
]
print(graph.compile().invoke({"messages": question})["messages"][-1].content)
