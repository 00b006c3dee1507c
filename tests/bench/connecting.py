"""How the load generator connects: many at once without being refused, and all of them gone afterwards."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

_AT_ONCE = 256

P = TypeVar("P", bound=asyncio.Protocol)


async def connect(port: int, make: Callable[[], P]) -> P:
    _, protocol = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    return protocol


async def connect_all(port: int, makes: Iterable[Callable[[], P]], at_once: int = _AT_ONCE) -> list[P]:
    """Connect with some handshakes under way at a time, so that no listening queue overflows."""
    gate = asyncio.Semaphore(at_once)

    async def one(make: Callable[[], P]) -> P:
        async with gate:
            return await connect(port, make)

    return await asyncio.gather(*map(one, makes))
