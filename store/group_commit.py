"""Group commit: the writes of one turn of the event loop share a transaction, and what gathers meanwhile the next."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from time import monotonic

from respool.store.backend import Adopt, Backend, Expire, Write
from respool.store.base import Key, StorageFailed
from respool.store.crashpoint import Point, reach

Told = Callable[[Exception | None], None]
_Asked = tuple[Write, Told]

LINGER_SECONDS = 0.001
"""The least time between a group and the next that lingers: as fine as the timers of the event loop are."""


class GroupCommit:
    """The one queue of a log's writes.

    What is written in one turn of the event loop, or while a transaction is under way, becomes one transaction
    together. What lingers waits besides until the last group is LINGER_SECONDS old, or until something comes that does
    not linger: of what comes so closely, one transaction costs less than several, and a lone write never waits.

    A transaction that is done sooner than a thread wakes up is done at once, all others in the thread of the backend.
    `show` is called with what was committed, before whoever asked for it hears of it.
    """

    def __init__(self, backend: Backend, show: Callable[[Write], None]) -> None:
        self._backend = backend
        self._show = show
        self._queue: list[_Asked] = []
        self._flushing: asyncio.Handle | None = None
        # Whether that is at a time; and when it was done last.
        self._is_lingering = False
        self._flushed = -inf
        self._writer: asyncio.Task[None] | None = None

    async def write(self, write: Write) -> None:
        """Return when `write` is durable. Raises what refuses it, and StorageFailed.

        A caller that is cancelled leaves it in the queue.
        """
        outcome: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.ask(write, partial(_set, outcome))
        error = await outcome
        if error is not None:
            try:
                raise error
            finally:
                # It holds this frame: with them, and with what was written, only the collector would do away.
                del error, outcome

    def ask(self, write: Write, told: Told, *, lingers: bool = False) -> None:
        """The same without waiting: `told` is called with the error or None. What `lingers` may be a little later."""
        self._queue.append((write, told))
        if self._writer is not None or (self._flushing is not None and (lingers or not self._is_lingering)):
            return
        if self._flushing is not None:
            self._flushing.cancel()
        wait = self._flushed + LINGER_SECONDS - monotonic() if lingers else 0.0
        self._is_lingering = wait > 0
        loop = asyncio.get_running_loop()
        self._flushing = loop.call_later(wait, self._flush) if self._is_lingering else loop.call_soon(self._flush)

    async def close(self) -> None:
        """Return when the queue is empty and nothing is under way."""
        self._flush()
        while self._writer is not None:
            await asyncio.wait({self._writer})

    def _flush(self) -> None:
        """Write what is in the queue, at once or in a task."""
        self._flushing = None
        if self._writer is not None or not self._queue:
            return
        self._flushed = monotonic()
        group, errors, failure = self._write_now()
        if errors is None:
            self._writer = asyncio.create_task(self._drain(group, failure), name="store-writer")
        else:
            self._tell(group, errors)

    def _write_now(self) -> tuple[Sequence[_Asked], Sequence[Exception | None] | None, Exception | None]:
        """The group in the queue, and what came of it; None if it must be waited for. And how its first try failed."""
        group, self._queue = self._queue, []
        try:
            return group, self._backend.commit_now([write for write, _ in group]), None
        except Exception as failure:  # noqa: BLE001 - the task deals with it
            return group, None, failure

    async def _drain(self, group: Sequence[_Asked], failure: Exception | None) -> None:
        """Write a group, whose first try has failed if there is a `failure`, and what has gathered meanwhile.

        That is on its way before those who asked for the first are told, which takes a while too.
        """
        errors = await self._waited_for(group, failure)
        while self._queue:
            following, now, failure = self._write_now()
            if now is not None:
                self._tell(group, errors)
                group, errors = following, now
                break
            later = asyncio.ensure_future(self._waited_for(following, failure))
            await asyncio.sleep(0)
            self._tell(group, errors)
            group, errors = following, await later
        self._tell(group, errors)
        self._writer = None
        self._flush()

    async def _waited_for(self, group: Sequence[_Asked], failure: Exception | None) -> Sequence[Exception | None]:
        writes = [write for write, _ in group]
        return await (self._commit(writes) if failure is None else self._failed(writes, failure))

    def _tell(self, group: Sequence[_Asked], errors: Sequence[Exception | None]) -> None:
        reach(Point.COMMITTED)
        for (write, told), error in zip(group, errors, strict=True):
            if error is None:
                self._show(write)
            told(error)

    async def _commit(self, writes: Sequence[Write]) -> Sequence[Exception | None]:
        try:
            return await self._backend.commit(writes)
        except Exception as error:  # noqa: BLE001 - a defect too must reach the callers and not leave them waiting
            return await self._failed(writes, error)

    async def _failed(self, writes: Sequence[Write], error: Exception) -> Sequence[Exception | None]:
        is_alone = len({_key(write) for write in writes}) == 1
        if is_alone or (isinstance(error, StorageFailed) and await self._is_down()):
            return [error] * len(writes)
        return await self._commit_apart(writes)

    async def _is_down(self) -> bool:
        """Whether nothing at all can be written, so that it is no single response that is at fault."""
        try:
            await self._backend.ping()
        except Exception:  # noqa: BLE001 - whatever it is, it is not about a response
            return True
        return False

    async def _commit_apart(self, writes: Sequence[Write]) -> Sequence[Exception | None]:
        """One transaction for each response, so that only the one at fault fails."""
        errors: list[Exception | None] = [None] * len(writes)
        places: dict[Key | None, list[int]] = {}
        for place, write in enumerate(writes):
            places.setdefault(_key(write), []).append(place)
        for group in places.values():
            outcome = await self._commit([writes[place] for place in group])
            for place, error in zip(group, outcome, strict=True):
                errors[place] = error
        return errors


def _set(outcome: asyncio.Future[Exception | None], error: Exception | None) -> None:
    if not outcome.done():
        outcome.set_result(error)


def _key(write: Write) -> Key | None:
    return None if isinstance(write, Adopt | Expire) else write.key
