"""Clients that drip: `python -m tests.clients.drip URL COUNT SECONDS` prints how long each lived, in seconds, as JSON.

A process of its own, so that what it costs is not taken for what the server costs. Half drip a head, half a body, a
byte a second; who is cut comes again. They come spread over the time that a request has.
"""

import asyncio
import json
import sys

from tests.clients.process import clock
from tests.proxy.client import dial
from tests.raw_server import Peer

HEAD = b"POST /responses HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 1000
BODY = b'POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{"input":"'
_SPREAD_SECONDS = 15.0


async def dripping(raw: Peer, seconds_apart: float) -> bytes:
    """Send a byte now and again; what came back until the connection was closed."""

    async def drip() -> None:
        while True:
            await raw.send(b"a")
            await asyncio.sleep(seconds_apart)

    sending = asyncio.create_task(drip())
    try:
        return await raw.rest()
    finally:
        sending.cancel()
        await asyncio.wait({sending})


async def _come_again(url: str, begin: bytes, wait: float, ages: list[float]) -> None:
    await asyncio.sleep(wait)
    while True:
        async with dial(url) as raw:
            began = clock()
            await raw.send(begin)
            got = await dripping(raw, 1)
            assert got.startswith(b"HTTP/1.1 408"), got
            ages.append(began.seconds)


async def _main(url: str, count: int, seconds: float) -> None:
    ages: list[float] = []
    waits = [_SPREAD_SECONDS * number / count for number in range(count)]
    tasks = [asyncio.create_task(_come_again(url, (HEAD, BODY)[n % 2], wait, ages)) for n, wait in enumerate(waits)]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
    print(json.dumps(ages), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
