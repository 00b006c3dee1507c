"""An agent on the unmodified azure-ai-agentserver-langgraph 1.0.0b16: a graph with a tool and a made-up model.

It knows nothing of respool, of background runs or of resuming. It needs no key and no network, and listens on
127.0.0.1, port DEFAULT_AD_PORT (8088). "slow" as the first word of the input makes it take its time; "weather" anywhere
in the input makes it call a tool first.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from azure.ai.agentserver.langgraph import from_langgraph
from azure.core.credentials import AccessToken
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

STORY = """\
A graph set out to tell a story, from its first node to its last. Halfway along an edge the wire was cut. The graph did
not notice, because somebody beside it kept listening and kept the words. When the reader came back, the story was
there, up to the last word and beyond it. The end."""


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"12 degrees in {city}"


class StoryModel(BaseChatModel):
    """A chat model that streams made-up answers as a real one would: token by token, a tool call in fragments."""

    @property
    def _llm_type(self) -> str:
        return "story"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("this model is asynchronous")

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        chunks = [chunk.message async for chunk in self._astream(messages)]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        answer = AIMessage(content=whole.content, tool_calls=whole.tool_calls)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = next(str(m.content) for m in reversed(messages) if isinstance(m, HumanMessage)).lower()
        answered = isinstance(messages[-1], ToolMessage)
        if "weather" in asked and not answered:
            yield tool_call_chunk(name="get_weather", id="call_weather", args='{"city": ')
            yield tool_call_chunk(name=None, id=None, args='"Oslo"}')
            return
        for word in (f"It is {messages[-1].content}." if answered else STORY).split():
            await asyncio.sleep(0.5 if asked.startswith("slow") else 0.05)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))


def tool_call_chunk(**fragment: str | None) -> ChatGenerationChunk:
    call = {"type": "tool_call_chunk", "index": 0, **fragment}
    return ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))


async def ask_model(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await StoryModel().ainvoke(state["messages"])]}


class NoCredential:
    """A credential that is never shown to anybody: the adapter asks for one although nothing here needs it."""

    async def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        return AccessToken("none", int(time.time()) + 3600)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> "NoCredential":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass


def graph() -> Any:
    built = StateGraph(MessagesState)
    built.add_node("agent", ask_model)
    built.add_node("tools", ToolNode([get_weather]))
    built.add_edge(START, "agent")
    built.add_conditional_edges("agent", tools_condition)
    built.add_edge("tools", "agent")
    return built.compile()


if __name__ == "__main__":
    # Without a project endpoint the adapter fails every run; it calls it only to store the items of a conversation.
    os.environ.setdefault("AZURE_AI_PROJECT_ENDPOINT", "http://127.0.0.1:9/api/projects/none")
    agent = from_langgraph(graph(), credentials=NoCredential())
    agent.init_tracing()
    # agent.run() cannot be told to listen on 127.0.0.1 alone.
    uvicorn.run(agent.app, host="127.0.0.1", port=int(os.environ.get("DEFAULT_AD_PORT", "8088")))
