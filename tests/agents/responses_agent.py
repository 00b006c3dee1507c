"""The test agent on azure-ai-agentserver-responses 2.4.0b1, which has background and resume of its own.

The first word of the input says how it behaves: one of `words_of` (nocancel is deaf to a cancel), tool, reason,
failfirst, failafter, failmid, noterm, failed, incomplete.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from azure.ai.agentserver.responses import (
    CreateResponse,
    ResponseContext,
    ResponseEventStream,
    ResponsesAgentServerHost,
    TextResponse,
)

from tests.agents.commands import Command, parse, words_of
from tests.agents.control import WorkLog, directory, end_with_parent

app = ResponsesAgentServerHost()


async def tokens_of(command: Command, run: str, cancelled: asyncio.Event) -> AsyncIterator[str]:
    number = 0
    async for token in words_of(command, "Hello from the responses agent ."):
        if heard(cancelled, command):
            return
        WorkLog(directory()).write("TOKEN", run, number)
        number += 1
        yield token


def heard(cancelled: asyncio.Event, command: Command) -> bool:
    return cancelled.is_set() and command.word != "nocancel"


async def items_of(command: Command, stream: ResponseEventStream) -> AsyncIterator[Any]:
    yield stream.emit_created()
    if command.word == "failafter":
        raise RuntimeError("boom after created")
    yield stream.emit_in_progress()
    if command.word == "reason":
        for event in stream.output_item_reasoning_item("Let me think about this..."):
            yield event
    if command.word == "failmid":
        async for event in half_a_message(stream):
            yield event
        raise RuntimeError("boom mid stream")
    said = (
        stream.output_item_function_call("get_weather", "call_1", json.dumps({"city": "Oslo"}))
        if command.word == "tool"
        else stream.output_item_message("Here is my answer.")
    )
    for event in said:
        yield event
    ends = {"failed": stream.emit_failed, "incomplete": stream.emit_incomplete}
    if command.word != "noterm":
        yield ends.get(command.word, stream.emit_completed)()


async def half_a_message(stream: ResponseEventStream) -> AsyncIterator[Any]:
    message = stream.add_output_item_message()
    yield message.emit_added()
    text = message.add_text_content()
    yield text.emit_added()
    yield text.emit_delta("partial ")


STRUCTURED = frozenset({"tool", "reason", "failafter", "failmid", "noterm", "failed", "incomplete"})


@app.response_handler
async def handler(request: CreateResponse, context: ResponseContext, cancelled: asyncio.Event) -> AsyncIterator[Any]:
    log, run, text = WorkLog(directory()), context.response_id, await context.get_input_text()
    log.write("CALLED", run, text)
    command = parse(text)
    if command.word == "failfirst":
        raise RuntimeError("boom before created")
    events: Any = TextResponse(context, request, text=tokens_of(command, run, cancelled))
    if command.word in STRUCTURED:
        events = items_of(command, ResponseEventStream(response_id=run, request=request))
    try:
        async for event in events:
            yield event
        log.write("CANCELLED" if heard(cancelled, command) else "COMPLETED", run)
    except (asyncio.CancelledError, GeneratorExit) as error:
        log.write("CANCELLED", run, type(error).__name__)
        raise


if __name__ == "__main__":
    end_with_parent()
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
