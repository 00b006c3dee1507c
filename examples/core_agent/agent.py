"""An agent on the unmodified azure-ai-agentserver-core 1.0.0b16: it tells a story, token by token.

It knows nothing of respool, of background runs or of resuming. It needs no key and no network, and listens on
127.0.0.1, port DEFAULT_AD_PORT (8088). "slow" as the first word of the input makes it take its time; "weather" anywhere
in the input makes it call a tool first.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

import uvicorn
from azure.ai.agentserver.core import AgentRunContext, FoundryCBAgent
from azure.ai.agentserver.core.models import Response, ResponseStreamEvent
from azure.ai.agentserver.core.models import projects as wire

STORY = """\
Once upon a time there was a small agent that answered every question one word after the other. It had a single worry:
when a page was reloaded in the middle of a sentence, the sentence was gone, and nobody, not even the agent, could
bring it back. One day a spool moved in beside it. The agent went on talking exactly as before. But the spool wrote
down each word before it let it pass, and whoever came back, whenever they came back, was told the rest. The end."""

ARGUMENTS = '{"city": "Oslo"}'


async def spoken(text: str, seconds_per_word: float) -> AsyncIterator[str]:
    for word in text.split():
        await asyncio.sleep(seconds_per_word)
        yield word + " "


def text_of(context: AgentRunContext) -> str:
    """The text of the last input message; the input is a string or a list of items."""
    given = context.request.get("input") or ""
    if isinstance(given, str):
        return given
    content = given[-1].get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def message(id_: str, text: str, status: str) -> wire.ResponsesAssistantMessageItemResource:
    content = [wire.ItemContentOutputText(text=text, annotations=[])] if text else []
    return wire.ResponsesAssistantMessageItemResource(id=id_, status=status, content=content)


def function_call(id_: str, arguments: str, status: str) -> wire.FunctionToolCallItemResource:
    return wire.FunctionToolCallItemResource(
        id=id_, call_id="call_weather", name="get_weather", arguments=arguments, status=status
    )


class Answer:
    """One streamed response: its events in order, numbered from 0, and the items that are complete."""

    def __init__(self, context: AgentRunContext) -> None:
        self._context = context
        self._created_at = int(time.time())
        self._number = 0
        self.output: list[wire.ItemResource] = []

    def next_number(self) -> int:
        self._number += 1
        return self._number - 1

    def snapshot(self, status: str) -> Response:
        return Response(
            {
                "object": "response",
                "id": self._context.response_id,
                "status": status,
                "created_at": self._created_at,
                "conversation": self._context.get_conversation_object(),
                "metadata": self._context.request.get("metadata") or {},
                "output": self.output,
            }
        )

    def call_tool(self) -> Iterator[ResponseStreamEvent]:
        id_ = self._context.id_generator.generate_function_call_id()
        where = {"output_index": len(self.output)}
        yield wire.ResponseOutputItemAddedEvent(
            sequence_number=self.next_number(), item=function_call(id_, "", "in_progress"), **where
        )
        yield wire.ResponseFunctionCallArgumentsDeltaEvent(
            sequence_number=self.next_number(), item_id=id_, delta=ARGUMENTS, **where
        )
        yield wire.ResponseFunctionCallArgumentsDoneEvent(
            sequence_number=self.next_number(), item_id=id_, arguments=ARGUMENTS, **where
        )
        called = function_call(id_, ARGUMENTS, "completed")
        yield wire.ResponseOutputItemDoneEvent(sequence_number=self.next_number(), item=called, **where)
        self.output.append(called)

    async def say(self, tokens: AsyncIterator[str]) -> AsyncIterator[ResponseStreamEvent]:
        id_ = self._context.id_generator.generate_message_id()
        item = {"output_index": len(self.output)}
        part = {**item, "item_id": id_, "content_index": 0}
        yield wire.ResponseOutputItemAddedEvent(
            sequence_number=self.next_number(), item=message(id_, "", "in_progress"), **item
        )
        yield wire.ResponseContentPartAddedEvent(
            sequence_number=self.next_number(), part=wire.ItemContentOutputText(text="", annotations=[]), **part
        )
        text = ""
        async for token in tokens:
            text += token
            yield wire.ResponseTextDeltaEvent(sequence_number=self.next_number(), delta=token, **part)
        yield wire.ResponseTextDoneEvent(sequence_number=self.next_number(), text=text, **part)
        yield wire.ResponseContentPartDoneEvent(
            sequence_number=self.next_number(), part=wire.ItemContentOutputText(text=text, annotations=[]), **part
        )
        said = message(id_, text, "completed")
        yield wire.ResponseOutputItemDoneEvent(sequence_number=self.next_number(), item=said, **item)
        self.output.append(said)


async def stream(context: AgentRunContext, asked: str) -> AsyncIterator[ResponseStreamEvent]:
    answer = Answer(context)
    yield wire.ResponseCreatedEvent(sequence_number=answer.next_number(), response=answer.snapshot("in_progress"))
    yield wire.ResponseInProgressEvent(sequence_number=answer.next_number(), response=answer.snapshot("in_progress"))
    if "weather" in asked:
        for event in answer.call_tool():
            yield event
    text = "It is 12 degrees in Oslo." if "weather" in asked else STORY
    async for event in answer.say(spoken(text, 0.5 if asked.startswith("slow") else 0.05)):
        yield event
    yield wire.ResponseCompletedEvent(sequence_number=answer.next_number(), response=answer.snapshot("completed"))


async def agent_run(context: AgentRunContext) -> AsyncIterator[ResponseStreamEvent] | Response:
    asked = text_of(context).lower()
    if context.stream:
        return stream(context, asked)
    events = [event async for event in stream(context, asked)]
    return events[-1].response


def serve(agent: FoundryCBAgent) -> None:
    """As agent.run(), which cannot be told to listen on 127.0.0.1 alone."""
    agent.init_tracing()
    uvicorn.run(agent.app, host="127.0.0.1", port=int(os.environ.get("DEFAULT_AD_PORT", "8088")))


if __name__ == "__main__":
    agent = FoundryCBAgent()
    agent.agent_run = agent_run
    serve(agent)
