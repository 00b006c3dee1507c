"""The one reading loop: from a cursor, in batches, to the end. Live is a resume from -1."""

import asyncio
from collections.abc import AsyncIterator

from respool.store.base import Key, Page, Store

_PAGE_BYTES = 256 * 1024
SILENCE = Page((), ended=False)


async def follow(store: Store, key: Key, after: int, keep_alive_seconds: float) -> AsyncIterator[Page]:
    """Pages of events with numbers greater than `after`, up to the end; SILENCE whenever nothing came for a while.

    `keep_alive_seconds` of 0 never yields SILENCE. Raises NotFound when the response is deleted or withdrawn.
    """
    while True:
        page = await store.read(key, after, _PAGE_BYTES)
        if page.chunks:
            after = page.chunks[-1].last
            yield page
        if page.ended:
            return
        if not page.chunks:
            try:
                async with asyncio.timeout(keep_alive_seconds or None):
                    await store.wait(key, after)
            except TimeoutError:
                yield SILENCE
