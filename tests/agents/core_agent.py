"""The test agent on azure-ai-agentserver-core 1.0.0b16; the first word of the input says how it behaves.

Careful streams: the words of `words_of`, tool, reason, failed, incomplete; drain KEY completes and then has work to do
until its gate opens. Broken ones: failrun, failfirst, failafter, failmid, exitmid, noterm. Bare ones, as in the SDK's
documentation: readme, sample. blockloop SECONDS blocks the event loop.
"""

import asyncio
import datetime
import os
import time
from collections.abc import AsyncIterator, Iterator

from azure.ai.agentserver.core import AgentRunContext, FoundryCBAgent
from azure.ai.agentserver.core.models import Response, ResponseStreamEvent
from azure.ai.agentserver.core.models import projects as wire

from examples.core_agent.agent import Answer, message, text_of
from tests.agents.commands import Command, parse, words_of
from tests.agents.control import Gate, WorkLog, directory
from tests.agents.legacy import serve

MOCK = "I am mock agent with no intelligence in stream mode."


async def tokens_of(command: Command, run: str) -> AsyncIterator[str]:
    number = 0
    async for token in words_of(command, "Hello from the legacy core agent ."):
        if number == 3 and command.word == "failmid":
            raise RuntimeError("boom mid stream")
        if number == 3 and command.word == "exitmid":
            os._exit(3)
        WorkLog(directory()).write("TOKEN", run, number)
        number += 1
        yield token


def reasoned(answer: Answer, run: str) -> Iterator[ResponseStreamEvent]:
    where = {"output_index": len(answer.output)}
    item = {"type": "reasoning", "id": "rs_" + run[-8:], "summary": []}
    yield wire.ResponseOutputItemAddedEvent(
        sequence_number=answer.next_number(), item=wire.ReasoningItemResource(item), **where
    )
    for delta in ("Let ", "me ", "think."):
        yield wire.ResponseReasoningSummaryTextDeltaEvent(
            sequence_number=answer.next_number(), item_id=item["id"], summary_index=0, delta=delta, **where
        )
    done = wire.ReasoningItemResource({**item, "summary": [{"type": "summary_text", "text": "Let me think."}]})
    yield wire.ResponseOutputItemDoneEvent(sequence_number=answer.next_number(), item=done, **where)
    answer.output.append(done)


def terminal(answer: Answer, word: str) -> ResponseStreamEvent:
    kinds = {"failed": wire.ResponseFailedEvent, "incomplete": wire.ResponseIncompleteEvent}
    status = word if word in kinds else "completed"
    kind = kinds.get(word, wire.ResponseCompletedEvent)
    return kind(sequence_number=answer.next_number(), response=answer.snapshot(status))


async def events_of(answer: Answer, command: Command, run: str) -> AsyncIterator[ResponseStreamEvent]:
    if command.word == "failfirst":
        raise RuntimeError("boom before the first event")
    yield wire.ResponseCreatedEvent(sequence_number=answer.next_number(), response=answer.snapshot("in_progress"))
    if command.word == "failafter":
        raise RuntimeError("boom after created")
    yield wire.ResponseInProgressEvent(sequence_number=answer.next_number(), response=answer.snapshot("in_progress"))
    for event in reasoned(answer, run) if command.word == "reason" else ():
        yield event
    for event in answer.call_tool() if command.word == "tool" else ():
        yield event
    async for event in answer.say(tokens_of(command, run)):
        if command.word == "noterm" and isinstance(event, wire.ResponseTextDoneEvent):
            return
        yield event
    yield terminal(answer, command.word)
    if command.word == "drain":
        await Gate(directory(), command.key).passed(0)


async def careful(answer: Answer, command: Command, run: str) -> AsyncIterator[ResponseStreamEvent]:
    log = WorkLog(directory())
    try:
        async for event in events_of(answer, command, run):
            yield event
        log.write("COMPLETED", run)
    except (asyncio.CancelledError, GeneratorExit) as error:
        log.write("CANCELLED", run, type(error).__name__)
        raise


def logged(events: Iterator[ResponseStreamEvent], run: str) -> Iterator[ResponseStreamEvent]:
    yield from events
    WorkLog(directory()).write("COMPLETED", run)


def readme() -> Iterator[ResponseStreamEvent]:
    """The shape of the package's README: nothing but deltas and their done, without numbers."""
    pieces = [piece + " " for piece in MOCK.split()]
    for piece in pieces:
        yield wire.ResponseTextDeltaEvent(delta=piece)
    yield wire.ResponseTextDoneEvent(text="".join(pieces))


def sample(context: AgentRunContext) -> Iterator[ResponseStreamEvent]:
    """The shape of the SDK's sample: a created without id or status, and no numbers."""
    id_ = context.id_generator.generate_message_id()
    where = {"output_index": 0}
    yield wire.ResponseCreatedEvent(response=Response(output=[]))
    yield wire.ResponseOutputItemAddedEvent(item=message(id_, "", "in_progress"), **where)
    pieces = [piece + " " for piece in MOCK.split()]
    for piece in pieces:
        yield wire.ResponseTextDeltaEvent(content_index=0, delta=piece, **where)
    yield wire.ResponseTextDoneEvent(content_index=0, text="".join(pieces), **where)
    yield wire.ResponseCompletedEvent(response=sample_response(context, id_, "".join(pieces)))


def sample_response(context: AgentRunContext, id_: str, text: str) -> Response:
    return Response(
        metadata={},
        temperature=0.0,
        top_p=0.0,
        user="me",
        id=context.response_id,
        created_at=datetime.datetime.now(tz=datetime.UTC),
        output=[message(id_, text, "completed")],
    )


def stream(
    context: AgentRunContext, command: Command, run: str
) -> AsyncIterator[ResponseStreamEvent] | Iterator[ResponseStreamEvent]:
    match command.word:
        case "readme":
            return logged(readme(), run)
        case "sample":
            return logged(sample(context), run)
        case _:
            return careful(Answer(context), command, run)


async def whole(context: AgentRunContext, command: Command, run: str) -> Response:
    answer = Answer(context)
    async for _ in careful(answer, command, run):
        pass
    return answer.snapshot("completed")


async def agent_run(
    context: AgentRunContext,
) -> AsyncIterator[ResponseStreamEvent] | Iterator[ResponseStreamEvent] | Response:
    run, text = context.response_id, text_of(context)
    WorkLog(directory()).write("CALLED", run, text)
    command = parse(text)
    if command.word == "failrun":
        raise RuntimeError("boom in agent_run")
    if command.word == "blockloop":
        time.sleep(command.seconds(5))  # noqa: ASYNC251 - this is the fault that it shows
    return stream(context, command, run) if context.stream else await whole(context, command, run)


if __name__ == "__main__":
    agent = FoundryCBAgent()
    agent.agent_run = agent_run
    serve(agent)
