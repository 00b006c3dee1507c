"""The same script on Azure's own SDK, at the settings that its README recommends: server and agent in one.

Runs in an environment of its own. `python -m tests.bench.azure_agent`, port in PORT, `--resilient` for durable events.
"""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from azure.ai.agentserver.responses import (  # type: ignore[import-not-found]
    CreateResponse,
    ResponseContext,
    ResponseEventStream,
    ResponsesAgentServerHost,
    ResponsesServerOptions,
)

from tests.agents.control import end_with_parent
from tests.bench.script import PLAIN_TEXT, STAMPED_TEXT, Script

SETTINGS = {
    "default_model": "gpt-4o",
    "sse_keep_alive_interval_seconds": 15,
    "shutdown_grace_period_seconds": 10,
}
_GOLDEN = 0.6180339887

app = ResponsesAgentServerHost(
    options=ResponsesServerOptions(**SETTINGS, resilient_background="--resilient" in sys.argv)
)
_numbers = itertools.count()


@app.response_handler  # type: ignore[untyped-decorator]
async def handler(request: CreateResponse, context: ResponseContext, cancelled: asyncio.Event) -> AsyncIterator[Any]:
    script = Script.parse(await context.get_input_text())
    stream = ResponseEventStream(response_id=context.response_id, request=request)
    yield stream.emit_created()
    yield stream.emit_in_progress()
    message = stream.add_output_item_message()
    yield message.emit_added()
    text = message.add_text_content()
    yield text.emit_added()
    for index in range(script.burst):
        yield text.emit_delta((PLAIN_TEXT % index).decode())
    async for delta in _paced(script):
        yield text.emit_delta(delta)
    if script.hang:
        await cancelled.wait()
    yield text.emit_text_done()
    yield text.emit_done()
    yield message.emit_done()
    yield stream.emit_completed()


async def _paced(script: Script) -> AsyncIterator[str]:
    phase = next(_numbers) * _GOLDEN % 1 if script.spread else 1.0
    began = time.monotonic() + script.wait + phase / script.rate
    for number in range(script.paced):
        await asyncio.sleep(began + number / script.rate - time.monotonic())
        yield (STAMPED_TEXT % (script.burst + number, time.monotonic_ns())).decode()


if __name__ == "__main__":
    end_with_parent()
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
