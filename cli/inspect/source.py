"""Where responses are read from: a store, or a server in front of one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from typing import Protocol

from respool.proxy.protocol.accumulator import Accumulator
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.jsons import JsonObject, loads
from respool.proxy.protocol.sse import split
from respool.store.archive import Archive
from respool.store.base import Chunk, Filter, Head, Key, NotFound

PAGE_BYTES = 1 << 20
_POLL_SECONDS = 0.1


class Source(Protocol):
    """Responses and their events. Every method may raise Trouble, NotFound and StorageFailed.

    `has_times` tells whether the times of arrival in chunks are those of the log.
    """

    has_times: bool

    async def list(self, which: Filter) -> Sequence[Head]:
        """See Store.list; a `limit` beyond what a server gives at once is gathered."""

    async def head(self, key: Key) -> Head:
        """See Store.head."""

    async def request(self, key: Key) -> bytes | None:
        """The body of the POST; None where it is not shown."""

    async def input(self, key: Key) -> object:
        """The `input` of the POST."""

    async def response(self, key: Key) -> JsonObject:
        """The response object: final, or with what there is of it so far."""

    def events(self, key: Key, after: int = -1, *, live: bool = False) -> AsyncIterator[Chunk]:
        """The events after `after` that are there, or, if `live`, up to the end of the response."""

    async def close(self) -> None:
        """Let go."""


class StoreSource:
    """A store, read beside whoever writes it."""

    has_times = True

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    async def list(self, which: Filter) -> Sequence[Head]:
        return await self.archive.list(which)

    async def head(self, key: Key) -> Head:
        return await self.archive.head(key)

    async def request(self, key: Key) -> bytes | None:
        return await self.archive.request(key)

    async def input(self, key: Key) -> object:
        try:
            body = loads(await self.archive.request(key))
        except ValueError:
            return None
        return body.get("input") if isinstance(body, dict) else None

    async def response(self, key: Key) -> JsonObject:
        result = await self.archive.result(key)
        if result is not None:
            value = loads(result)
            return value if isinstance(value, dict) else {}
        head = await self.archive.head(key)
        fold = Accumulator(Envelope(loads(head.envelope)).snapshot(head.status))
        async for chunk in self.events(key):
            for frame in chunk.events():
                fold.add(split(frame)[1])
        return fold.snapshot()

    async def events(self, key: Key, after: int = -1, *, live: bool = False) -> AsyncIterator[Chunk]:
        while True:
            page = await self.archive.read(key, after, PAGE_BYTES)
            for chunk in page.chunks:
                after = chunk.last
                yield chunk
            if page.ended or not (page.chunks or live):
                return
            if not page.chunks:
                await asyncio.sleep(_POLL_SECONDS)

    async def close(self) -> None:
        await self.archive.close()


async def pages(source: Source, which: Filter, limit: int | None, size: int = 500) -> AsyncGenerator[Head, None]:
    """All responses of a filter, newest first, at most `limit`."""
    left = limit
    while left is None or left > 0:
        count = size if left is None else min(size, left)
        heads = await source.list(replace(which, limit=count))
        for head in heads:
            yield head
        if len(heads) < count:
            return
        left = None if left is None else left - count
        which = replace(which, older_than=await _last_that_is_there(source, heads))


async def _last_that_is_there(source: Source, heads: Sequence[Head]) -> Key:
    """Where a list goes on: some of what was listed may have been deleted since."""
    if not isinstance(source, StoreSource):
        return heads[-1].key
    for head in reversed(heads):
        try:
            await source.head(head.key)
        except NotFound:
            continue
        return head.key
    return heads[-1].key
