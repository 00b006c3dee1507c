"""The table of live runs: started here, told here, and waited for when the process ends. Orphans get their end here."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from respool.proxy import calls
from respool.proxy.ends import SHUTDOWN, end_from_log
from respool.proxy.protocol import errors, rules
from respool.proxy.protocol.failure import Failure
from respool.proxy.protocol.jsons import loads
from respool.proxy.protocol.rules import Plan
from respool.proxy.relay import Relay
from respool.proxy.run import Run, Word
from respool.proxy.settings import Settings
from respool.proxy.slots import Slots
from respool.proxy.snapshots import Snapshots
from respool.proxy.upstream import Upstream
from respool.store.base import Head, Key, StorageFailed, Store
from respool.store.crashpoint import Point, reach
from respool.store.status import Status

log = logging.getLogger(__name__)

# Longer than the pause between two attempts to write an end.
_LAST_TRY_SECONDS = 2.0
# Each holds the object that it folds.
_ORPHANS_AT_ONCE = 32

_OWNER_LOST = Failure("owner_lost", "The server stopped before the response was complete.")


class Runs:
    """All runs of this process. `draining` is true once no new one may be started."""

    def __init__(self, upstream: Upstream, snapshots: Snapshots, settings: Settings) -> None:
        self._upstream = upstream
        self._snapshots = snapshots
        self._settings = settings
        self._runs: dict[Key, Run] = {}
        self._tasks: dict[asyncio.Task[None], Run] = {}
        self.slots = Slots(settings.max_in_flight)
        self.draining = False
        self._starting = 0
        self._none_starts = asyncio.Event()
        self._none_starts.set()

    @contextmanager
    def starting(self) -> Iterator[None]:
        """A block in which a record is created and its run started. The drain waits for it. Raises WireError later."""
        self.refuse_if_draining()
        self._starting += 1
        self._none_starts.clear()
        try:
            yield
        finally:
            self._starting -= 1
            if not self._starting:
                self._none_starts.set()

    def refuse_if_draining(self) -> None:
        """Raises WireError once no new run may be started."""
        if self.draining:
            raise errors.shutting_down()

    def start(self, run: Run) -> None:
        """Begin a run whose record has been created. It depends on no client."""
        relay = Relay(run, self._upstream, self._snapshots, self._settings)
        task = asyncio.create_task(relay(), name=f"run {run.key.id}")
        self._runs[run.key] = run
        self._tasks[task] = run
        task.add_done_callback(self._finished)
        log.info("run_queued" if run.queued else "run_started", extra={"response_id": run.key.id})

    def get(self, key: Key) -> Run | None:
        """The live run of a response, if this process has it."""
        return self._runs.get(key)

    def _finished(self, task: asyncio.Task[None]) -> None:
        run = self._tasks.pop(task)
        run.slot.give_back()
        if self._runs.get(run.key) is run:
            del self._runs[run.key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("run_broken", extra={"response_id": run.key.id}, exc_info=error)

    async def drain(self, grace_seconds: float) -> None:
        """Start nothing more, let the runs go on for the grace, then end those that are left as failed.

        What waits for its slot does not get it any more: it stays queued for the next process, or ends at once.
        """
        self.draining = self.slots.closed = True
        await self._none_starts.wait()
        for run in self._tasks.values():
            if not run.slot.has_come and not run.stays:
                run.ear.tell(Word.SHUTDOWN)
        if left := self._ending():
            await asyncio.wait(left, timeout=grace_seconds)
        left = self._ending()
        for run in left.values():
            run.ear.tell(Word.SHUTDOWN)
        for run in left.values():
            await run.ended.wait()
        if left := self._ending():
            # What takes longer waits for a storage that fails: its end has been told, and the next start writes it.
            await asyncio.wait(left, timeout=_LAST_TRY_SECONDS)

    def _ending(self) -> dict[asyncio.Task[None], Run]:
        """The runs that do not stay for the next process."""
        return {task: run for task, run in self._tasks.items() if not run.stays}

    async def cancel_all(self) -> None:
        """The hard end: nothing is waited for but the tasks themselves."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def take_over(store: Store, runs: Runs, snapshots: Snapshots, settings: Settings) -> int:
    """Take over what a dead process left behind: how many responses were given their one end.

    An agent is not called again. What still waited for its slot, and whose POST carried nothing that is never stored,
    goes on waiting, in the same order.
    """
    orphans: list[Head] = []
    for head in await store.adopt():
        if await _goes_on_waiting(store, head):
            runs.start(_waiting_run(store, runs, settings, head))
        else:
            orphans.append(head)
    await _end_orphans(store, snapshots, settings, orphans)
    return len(orphans)


async def _goes_on_waiting(store: Store, head: Head) -> bool:
    if head.status is not Status.QUEUED or not head.background or head.cancel_requested:
        return False
    try:
        return await store.call(head.key) is not None
    except StorageFailed:
        log.exception("orphan_not_readable", extra={"response_id": head.key.id})
        return False


def _waiting_run(store: Store, runs: Runs, settings: Settings, head: Head) -> Run:
    plan = rules.MATRIX[True, True, head.stream]
    assert isinstance(plan, Plan)  # else it had not been created
    envelope = calls.envelope_again(settings, loads(head.envelope))
    run = Run(head.key, plan, envelope, None, store, runs.slots.ask(), head.epoch, head.last_seq)
    run.queued = run.kept = True
    return run


async def _end_orphans(store: Store, snapshots: Snapshots, settings: Settings, orphans: Iterable[Head]) -> None:
    left = iter(orphans)

    async def end_some() -> None:
        for head in left:
            reach(Point.ADOPT)
            try:
                await _end_orphan(store, snapshots, settings, head)
            except Exception:
                # One that is damaged must not keep the others from being served.
                log.exception("orphan_not_ended", extra={"response_id": head.key.id})

    # Several at a time: what one waits for the storage another folds, and their ends share transactions.
    await asyncio.gather(*(end_some() for _ in range(_ORPHANS_AT_ONCE)))


async def _end_orphan(store: Store, snapshots: Snapshots, settings: Settings, head: Head) -> None:
    # Nobody is served yet, so a cancel that counts was committed before the process died.
    lost = SHUTDOWN if head.status is Status.QUEUED and head.background else _OWNER_LOST
    ending = await end_from_log(store, snapshots, settings, head, lost)
    log.info("orphan_ended", extra={"response_id": head.key.id, "status": str(ending.status)})
