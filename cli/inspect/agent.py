"""A recorded stream as an agent's endpoint: so that a client can be debugged with what once went wrong."""

from contextlib import aclosing

import typer

from respool.cli.inspect.replay import Recording, until_signalled
from respool.cli.inspect.trouble import BROKEN, WRONG_OPTIONS, Trouble
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.jsons import dumps, loads
from respool.proxy.reply import JSON_HEADERS, SSE_HEADERS, ClientGone, Receive, Reply, Scope, Send
from respool.proxy.server import Server, bind
from respool.proxy.settings import host_and_port

_PROBES = ("/readiness", "/liveness")
_FLUSH_SECONDS = 1.0


async def serve_recording(recording: Recording, speed: float, address: str) -> None:
    """Serve until a signal. Raises Trouble."""
    try:
        host, port = host_and_port(address)
        listener = bind(host, port)
    except ValueError as error:
        raise Trouble(WRONG_OPTIONS, f"--serve {error}") from None
    except OSError as error:
        raise Trouble(BROKEN, f"cannot listen on {address}: {error.strerror or error}") from None
    stop = until_signalled()
    server = Server(_Agent(recording, speed))
    await server.listen(listener)
    taken = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"an agent that says {recording.head.key.id} on http://{shown}:{taken}, until Ctrl-C", err=True)
    await stop.wait()
    await server.close(_FLUSH_SECONDS)


class _Agent:
    """The ASGI application."""

    def __init__(self, recording: Recording, speed: float) -> None:
        self._recording = recording
        self._speed = speed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        reply = Reply(scope, receive, send)
        path = scope["path"].rstrip("/")
        if scope["method"] == "POST" and path.endswith("/responses"):
            body = await _body(receive)
            try:
                await self._answer(reply, is_stream=_wants_stream(body))
            except ClientGone:
                return
        elif path in _PROBES:
            await reply.whole(200, JSON_HEADERS, b'{"status":"ready"}')
        else:
            await reply.error(WireError(404, "This agent only answers POST /responses.", code="not_found"), "replay")

    async def _answer(self, reply: Reply, *, is_stream: bool) -> None:
        async with reply.watching(), aclosing(self._recording.played(self._speed)) as chunks:
            if is_stream:
                await reply.start(200, SSE_HEADERS)
            while (chunk := await reply.listen(lambda: anext(chunks, None))) is not None:
                if is_stream:
                    await reply.write(chunk.data)
            if is_stream:
                await reply.end()
            else:
                await reply.whole(200, JSON_HEADERS, dumps(self._recording.response))


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _wants_stream(body: bytes) -> bool:
    try:
        request = loads(body)
    except ValueError:
        return False
    return isinstance(request, dict) and request.get("stream") is True
