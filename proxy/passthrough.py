"""Everything that is not ours: streamed both ways, untouched but for the hop-by-hop headers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx

from respool.proxy import upstream as agent
from respool.proxy.reply import ClientGone, Receive, Reply, Scope
from respool.proxy.upstream import Upstream


async def forward(upstream: Upstream, scope: Scope, receive: Receive, reply: Reply, request_id: str) -> None:
    """Send the request on and its answer back. The answer's headers are the agent's own, to the byte."""
    uploaded = asyncio.Event()
    body = _upload(receive, uploaded) if _has_body(scope) else None
    if body is None:
        uploaded.set()
    with suppress(ClientGone):
        async with reply.watching(uploaded):
            await _exchange(upstream, scope, body, reply, request_id)


async def _exchange(
    upstream: Upstream, scope: Scope, body: AsyncIterator[bytes] | None, reply: Reply, request_id: str
) -> None:
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    try:
        response = await reply.listen(lambda: upstream.forward(scope["method"], target, scope["headers"], body))
    except httpx.TransportError as error:
        return await reply.error(agent.refusal(error), request_id)
    try:
        await _hand_back(response, reply)
    finally:
        await response.aclose()
    return None


def _has_body(scope: Scope) -> bool:
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


async def _upload(receive: Receive, uploaded: asyncio.Event) -> AsyncIterator[bytes]:
    """The request body as it arrives: asking for the next piece only when the agent took the last is back-pressure."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # The agent must not take a torn body for the whole: closing without the last chunk says so.
            raise httpx.WriteError("the client left in mid-body")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            uploaded.set()
            return


async def _hand_back(response: httpx.Response, reply: Reply) -> None:
    headers = [(name.lower(), value) for name, value in agent.end_to_end(response.headers.raw)]
    await reply.start(response.status_code, headers)
    pieces = agent.pieces(response)
    try:
        while True:
            await reply.write(await reply.listen(pieces.__anext__))
    except StopAsyncIteration:
        await reply.end()
    except httpx.TransportError:
        # What came has been handed on; a torn answer must not look whole.
        reply.cut()
