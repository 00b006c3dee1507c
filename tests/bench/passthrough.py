"""A plain pass-through in Quart and httpx on Hypercorn and uvloop, without a log: `python -m tests.bench.passthrough`.

What one would write in an afternoon, without the limits that would stop it: connections, and seconds of an answer.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import httpx
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request

_HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding"}

app = Quart(__name__)


@app.before_serving
async def connect() -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    app.config["AGENT"] = httpx.AsyncClient(base_url=sys.argv[2], timeout=None, limits=limits)


@app.after_serving
async def disconnect() -> None:
    await app.config["AGENT"].aclose()


@app.route("/<path:path>", methods=["GET", "POST", "DELETE"])
async def forward(path: str) -> Response:
    agent: httpx.AsyncClient = app.config["AGENT"]
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
    sent = agent.build_request(request.method, f"/{path}", headers=headers, content=await request.get_data())
    answer = await agent.send(sent, stream=True)

    async def body() -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_raw():
                yield piece
        finally:
            await answer.aclose()

    kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
    response = Response(body(), answer.status_code, kept)
    response.timeout = None
    return response


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.backlog = 4096
    config.keep_alive_timeout = 75

    async def main() -> None:
        await serve(app, config, shutdown_trigger=asyncio.Event().wait)

    uvloop.run(main())
