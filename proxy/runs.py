"""The table of live runs: started here, told here, and waited for when the process ends. Orphans get their end here."""

import asyncio
import logging
import time

from respool.proxy import clock
from respool.proxy.protocol.events import Envelope
from respool.proxy.protocol.jsons import loads
from respool.proxy.protocol.repair import Failure, Sequencer
from respool.proxy.relay import Relay, own_end
from respool.proxy.run import Run, Word
from respool.proxy.settings import Settings
from respool.proxy.snapshots import Snapshots
from respool.proxy.upstream import Upstream
from respool.store.base import Chunk, End, Head, Key, StorageFailed, Store
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
        self.draining = False

    def start(self, run: Run) -> None:
        """Begin a run whose record has been created. It depends on no client."""
        relay = Relay(run, self._upstream, self._snapshots, self._settings)
        task = asyncio.create_task(relay(), name=f"run {run.key.id}")
        self._runs[run.key] = run
        self._tasks[task] = run
        task.add_done_callback(self._finished)
        log.info("run_started", extra={"response_id": run.key.id})

    def get(self, key: Key) -> Run | None:
        """The live run of a response, if this process has it."""
        return self._runs.get(key)

    def _finished(self, task: asyncio.Task[None]) -> None:
        run = self._tasks.pop(task)
        if self._runs.get(run.key) is run:
            del self._runs[run.key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("run_broken", extra={"response_id": run.key.id}, exc_info=error)

    async def drain(self, grace_seconds: float) -> None:
        """Start nothing more, let the runs go on for the grace, then end those that are left as failed."""
        self.draining = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_seconds)
        for run in (left := list(self._tasks.values())):
            run.ear.tell(Word.SHUTDOWN)
        for run in left:
            await run.ended.wait()
        if self._tasks:
            # What takes longer waits for a storage that fails: its end has been told, and the next start writes it.
            await asyncio.wait(set(self._tasks), timeout=_LAST_TRY_SECONDS)

    async def cancel_all(self) -> None:
        """The hard end: nothing is waited for but the tasks themselves."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def end_orphans(store: Store, snapshots: Snapshots, settings: Settings) -> int:
    """Give every response that a dead process left behind its one end; the agent is not called again."""
    orphans = await store.adopt()
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
    return len(orphans)


async def _end_orphan(store: Store, snapshots: Snapshots, settings: Settings, head: Head) -> None:
    # Nobody is served yet, so a cancel that counts was committed before the process died.
    status, failure = (Status.CANCELLED, None) if head.cancel_requested else (Status.FAILED, _OWNER_LOST)
    sequencer = Sequencer.resumed(Envelope(loads(head.envelope)), head.last_seq + 1)
    initial = sequencer.envelope.snapshot(Status.IN_PROGRESS)
    try:
        snapshot = await snapshots.take(store, head.key, initial, "incomplete")
    except StorageFailed:
        log.exception("orphan_not_readable", extra={"response_id": head.key.id})
        snapshot = initial
    snapshots.forget(head.key)
    preface = sequencer.preface()
    ending = own_end(sequencer, snapshot, status, failure, settings)
    chunk = Chunk.of(head.last_seq + 1, [*preface, ending.frame], time.time_ns() // 1_000_000)
    end = End(ending.status, ending.result, clock.latest_ms())
    await store.append(head.key, head.epoch, chunk, end=end)
    log.info("orphan_ended", extra={"response_id": head.key.id, "status": str(ending.status)})
