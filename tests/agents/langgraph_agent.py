"""The test agent on azure-ai-agentserver-langgraph 1.0.0b16; the first word of the input says how it behaves.

Beside the words of `words_of`: tool, tool2 (two calls), texttool (text and a call in one message), failfirst, failmid,
idmix (the model sets its own chunk ids), static (no model), interrupt, and silent KEY, a node that says nothing until
its gate opens.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

from azure.ai.agentserver.langgraph import from_langgraph
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

from examples.langgraph_agent.agent import NoCredential, get_weather
from tests.agents.commands import Command, parse, words_of
from tests.agents.control import Gate, WorkLog, directory
from tests.agents.legacy import serve


def question(messages: list[BaseMessage]) -> HumanMessage:
    """The last thing the user said; its id, which the graph gave it, is the run's."""
    return next(message for message in reversed(messages) if isinstance(message, HumanMessage))


def text_of(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return " ".join(part.get("text", "") for part in message.content if isinstance(part, dict))


def calls_of(command: Command) -> list[AIMessageChunk]:
    """The fragments of the tool calls that a word asks for."""
    before = [AIMessageChunk(content="Let me look. ")] if command.word == "texttool" else []
    cities = {"tool": ["Oslo"], "texttool": ["Oslo"], "tool2": ["Oslo", "Rome"]}.get(command.word, [])
    return before + [chunk for index, city in enumerate(cities) for chunk in call_fragments(index, city)]


def call_fragments(index: int, city: str) -> list[AIMessageChunk]:
    head = {"name": "get_weather", "args": '{"city":', "id": f"call_{index}", "index": index}
    rest = {"name": None, "args": f' "{city}"}}', "id": None, "index": index}
    return [
        AIMessageChunk(content="", tool_call_chunks=[{"type": "tool_call_chunk", **fragment}])
        for fragment in (head, rest)
    ]


async def chunks_of(messages: list[BaseMessage]) -> AsyncIterator[AIMessageChunk]:
    asked = question(messages)
    command = parse(text_of(asked))
    calls = [] if isinstance(messages[-1], ToolMessage) else calls_of(command)
    if command.word == "failfirst":
        raise RuntimeError("boom before the first token")
    for call in calls:
        yield call
    if calls:
        return
    number = 0
    async for word in words_of(command, "Hello from the legacy langgraph agent ."):
        if number == 3 and command.word == "failmid":
            raise RuntimeError("boom mid stream")
        WorkLog(directory()).write("TOKEN", str(asked.id), number)
        number += 1
        yield AIMessageChunk(content=word)
    if command.word != "empty":
        usage = {"input_tokens": 3, "output_tokens": number, "total_tokens": 3 + number}
        yield AIMessageChunk(content="", usage_metadata=usage)


class ScriptedModel(BaseChatModel):
    """Streams what the input asks for; the ids of chunks are left to langchain-core, as most real models leave them."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("this model is asynchronous")

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        chunks = [chunk async for chunk in chunks_of(messages)]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        answer = AIMessage(content=whole.content, tool_calls=whole.tool_calls, usage_metadata=whole.usage_metadata)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        own = "run-" + uuid.uuid4().hex if parse(text_of(question(messages))).word == "idmix" else None
        async for chunk in chunks_of(messages):
            yield ChatGenerationChunk(message=chunk.model_copy(update={"id": own}))


async def answer_to(messages: list[BaseMessage]) -> AIMessage:
    command = parse(text_of(question(messages)))
    match command.word:
        case "static":
            return AIMessage("a message made without any model")
        case "silent":
            await Gate(directory(), command.key).passed(0)
            return AIMessage("done silently")
        case "interrupt":
            interrupt({"question": "approve?"})
    return await ScriptedModel().ainvoke(messages)


async def ask_model(state: MessagesState) -> dict[str, Any]:
    messages, log = state["messages"], WorkLog(directory())
    asked = question(messages)
    if not isinstance(messages[-1], ToolMessage):
        log.write("CALLED", str(asked.id), text_of(asked))
    try:
        answer = await answer_to(messages)
    except asyncio.CancelledError as error:
        log.write("CANCELLED", str(asked.id), type(error).__name__)
        raise
    if not answer.tool_calls:
        log.write("COMPLETED", str(asked.id))
    return {"messages": [answer]}


def graph() -> Any:
    built = StateGraph(MessagesState)
    built.add_node("agent", ask_model)
    built.add_node("tools", ToolNode([get_weather]))
    built.add_edge(START, "agent")
    built.add_conditional_edges("agent", tools_condition)
    built.add_edge("tools", "agent")
    return built.compile()


if __name__ == "__main__":
    # Without a project endpoint every run fails; it is called only for a stored request with a conversation.
    os.environ.setdefault("AZURE_AI_PROJECT_ENDPOINT", "http://127.0.0.1:9/api/projects/none")
    serve(from_langgraph(graph(), credentials=NoCredential()))
