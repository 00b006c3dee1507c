"""Response objects at a moment of their run: folds over the log, each continued from where it was left.

Kept for a poll that comes again and for an end that the agent did not write; bounded by the bytes folded.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from respool.proxy.protocol.accumulator import Accumulator
from respool.proxy.protocol.jsons import JsonObject
from respool.proxy.protocol.sse import split
from respool.store.base import Key, NotFound, Store

_PAGE_BYTES = 256 * 1024
_CACHE_BYTES = 64 * 2**20


@dataclass(slots=True)
class _Fold:
    accumulator: Accumulator
    cursor: int = -1
    folded_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Snapshots:
    """A cache of folds, the least recently used given up beyond `max_bytes` of folded events."""

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._folds: OrderedDict[Key, _Fold] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0

    async def take(self, store: Store, key: Key, initial: JsonObject, items: str | None = None) -> JsonObject:
        """The object with everything that the log has now, begun from `initial`; the cost is that of the new events.

        `items` is the status that items still open get, for an end that the agent did not write. Raises NotFound.
        """
        fold = self._folds.setdefault(key, _Fold(Accumulator(initial)))
        self._folds.move_to_end(key)
        async with fold.lock:
            try:
                await self._advance(store, key, fold)
            except NotFound:
                self.forget(key)
                raise
            if items is not None:
                fold.accumulator.close_items(items)
            return fold.accumulator.snapshot()

    def forget(self, key: Key) -> None:
        """Let go of a fold: the response has ended, its final object is in the log."""
        fold = self._folds.pop(key, None)
        if fold is not None:
            self._bytes -= fold.folded_bytes

    async def _advance(self, store: Store, key: Key, fold: _Fold) -> None:
        while True:
            page = await store.read(key, fold.cursor, _PAGE_BYTES)
            if not page.chunks:
                return
            for chunk in page.chunks:
                for frame in chunk.events():
                    fold.accumulator.add(split(frame)[1])
                fold.cursor = chunk.last
                fold.folded_bytes += len(chunk.data)
                if self._folds.get(key) is fold:
                    self._bytes += len(chunk.data)
            self._trim(key)
            # In slices: a long fold must not hold up every other stream.
            await asyncio.sleep(0)

    def _trim(self, busy: Key) -> None:
        for key in list(self._folds):
            if self._bytes <= self._max_bytes:
                return
            if key != busy:
                self.forget(key)
