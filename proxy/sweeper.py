"""What has been kept long enough goes: a task that looks every few seconds, and works while nobody is held up by it.

Source: CONTRACT section 8, retention.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from respool.proxy import clock
from respool.proxy.settings import Settings
from respool.store.base import StorageFailed, Store

log = logging.getLogger(__name__)

# A machine that has just started may not know the time yet.
_FIRST_SECONDS = 60.0
_EVERY_SECONDS = 10.0
# The writer of the store is left to others four times as long as each slice took.
_REST = 4


class Sweeper:
    """Removes what has expired, and gives back the space of what was deleted. Await it in a task of its own."""

    def __init__(self, store: Store, settings: Settings, now_ms: Callable[[], int] = clock.earliest_ms) -> None:
        self._store = store
        self._kept_ms = round(settings.retention_seconds * 1000)
        self._max_bytes = settings.max_store_bytes
        self._now_ms = now_ms

    async def __call__(self) -> NoReturn:
        """Sweep again and again; only a cancellation ends it."""
        pause = self._pause(_FIRST_SECONDS)
        while True:
            await asyncio.sleep(pause)
            try:
                await self.sweep()
            except StorageFailed as error:
                log.warning("sweep_failed", extra={"reason": str(error)})
            except Exception:
                # A defect must not let the disk fill up: the next sweep may not meet it.
                log.exception("sweep_failed")
            pause = self._pause(_EVERY_SECONDS)

    def _pause(self, seconds: float) -> float:
        """Not longer than a quarter of what is being waited for."""
        return min(seconds, self._kept_ms / 4000) if self._kept_ms else seconds

    async def sweep(self) -> None:
        """Remove everything that is due now. Raises StorageFailed."""
        before_ms = self._now_ms() - self._kept_ms if self._kept_ms else 0
        count = 0
        while True:
            began = asyncio.get_running_loop().time()
            swept = await self._store.expire(before_ms, self._max_bytes)
            count += len(swept.gone)
            if not swept.more:
                break
            await asyncio.sleep(_REST * (asyncio.get_running_loop().time() - began))
        if count:
            log.info("swept", extra={"responses": count})
