"""A bare follower: respool's server loop with an application that sends one event and waits. What a connection costs.

`python -m tests.bench.bare PORT`
"""

import asyncio
import sys
from typing import Any

import uvloop

from respool.proxy.server import Server, bind
from tests.bench.script import opening

_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_EVENTS = b"".join(opening())


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application; of lifespan it knows nothing."""
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    if scope["path"] == "/ready":
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})
        return
    await send({"type": "http.response.body", "body": _EVENTS, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def main(port: int) -> None:
    server = Server(app)
    await server.listen(bind("127.0.0.1", port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
