"""How a run ends: with the agent's terminal event or without it, written once, and told as far as that can be.

Source: CONTRACT sections 3, 5 and 8.
"""

import logging
import time

from respool.proxy import clock
from respool.proxy.protocol import errors
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.failure import Failure
from respool.proxy.protocol.jsons import JsonObject, loads
from respool.proxy.protocol.repair import Ending, Sequencer
from respool.proxy.record import Record
from respool.proxy.run import Answer, Run
from respool.proxy.settings import Settings
from respool.proxy.snapshots import Snapshots
from respool.store.base import Cancelled, Chunk, End, Head, StorageFailed, Store
from respool.store.status import Status

log = logging.getLogger(__name__)

SHUTDOWN = Failure("server_shutdown", "The server was shut down before the response was complete.")
STORAGE = Failure(
    "storage_error",
    "An internal error occurred while storing the response. Subsequent retrieval is not guaranteed. "
    "Please retry the request.",
)
INTERNAL = Failure("server_error", "internal server error")


class Stopped(Exception):
    """The run ends without a terminal event of the agent.

    `unsent` is the whole answer if the client has been told nothing yet; None keeps what there is. `provisional`: the
    storage is what failed, and an end that it does not take either is shown before it is durable. `alone` puts nothing
    before the end, which then has the number after the last one committed.
    """

    def __init__(
        self,
        status: Status,
        failure: Failure | None = None,
        *,
        unsent: WireError | Answer | None = None,
        provisional: bool = False,
        alone: bool = False,
    ) -> None:
        super().__init__(status)
        self.status = status
        self.failure = failure
        self.unsent = unsent
        self.provisional = provisional
        self.alone = alone or provisional


class Ends:
    """Writes for a relay, and ends its run."""

    def __init__(
        self, run: Run, sequencer: Sequencer, record: Record, snapshots: Snapshots, settings: Settings
    ) -> None:
        self._run = run
        self._sequencer = sequencer
        self._record = record
        self._snapshots = snapshots
        self._settings = settings

    async def append(self, ending: Ending | None = None) -> None:
        """Write the frames made. Raises Stopped."""
        end = End(ending.status, ending.result, clock.latest_ms()) if ending else None
        try:
            await self._record.append(end)
        except (Cancelled, StorageFailed) as error:
            raise self._stopped_by(error) from error
        self._run.began.set()
        if ending is not None:
            self._ended(ending)

    async def settle(self) -> None:
        """Wait for what was written without waiting. Raises Stopped."""
        try:
            await self._record.settle()
        except (Cancelled, StorageFailed) as error:
            raise self._stopped_by(error) from error

    def _stopped_by(self, error: Cancelled | StorageFailed) -> Stopped:
        if isinstance(error, Cancelled):
            return Stopped(Status.CANCELLED)
        # Its words name the file and the reason.
        log.error("storage_failed", extra={"response_id": self._run.key.id, "error": str(error)})
        return Stopped(Status.FAILED, STORAGE, unsent=errors.storage_error(sent=True), provisional=True)

    async def with_agent(self) -> None:
        """End with the terminal event that the agent sent. Raises Stopped."""
        output = None
        if self._sequencer.lacks_output:
            self._record.begin()
            try:
                output = (await self._fold())["output"]
            except StorageFailed as error:
                raise Stopped(Status.FAILED, STORAGE) from error
        ending = self._sequencer.close(_now(), output)
        self._record.frames.append(ending.frame)
        await self.append(ending)

    async def without_agent(self, stopped: Stopped) -> None:
        """End with an event of our own, or as if the run had never been. Raises StoreError for what nobody expects."""
        try:
            await self.settle()
        except Stopped as before:
            stopped = before
        if stopped.unsent is not None and not self._sequencer.began:
            if await self._withdraw(stopped.unsent):
                return
            stopped = Stopped(Status.CANCELLED)
        ending = await self._own_end(stopped)
        try:
            await self.append(ending)
        except Stopped as again:
            if stopped.provisional and again.provisional:
                await self._show(ending)
            else:
                # The storage failed on this very end, or a cancel was committed before it; this happens once each.
                await self.without_agent(again)

    async def _show(self, ending: Ending) -> None:
        """Tell an end that the storage does not take.

        It was tried before, and that matters: a commit that failed at its sync is in the file until another is written
        over it, and a crash would bring it back.
        """
        chunk = Chunk.of(self._record.seq, [ending.frame], clock.now_ms())
        self._ended(ending)
        self.tell_waiters()
        end = End(ending.status, ending.result, clock.latest_ms())
        try:
            await self._run.store.show_end(self._run.key, self._run.epoch, chunk, end)
        except Cancelled:
            # A cancel was committed between the failure and this end: what the log says in the end is the cancel.
            self._record.take_back()
            await self.without_agent(Stopped(Status.CANCELLED, alone=True))

    async def _own_end(self, stopped: Stopped) -> Ending:
        """The terminal event, behind what must precede it."""
        self._record.begin()
        status, failure = stopped.status, stopped.failure
        try:
            snapshot = await self._fold("completed" if status is Status.COMPLETED else "incomplete")
        except StorageFailed:
            snapshot = self._run.envelope.snapshot(Status.IN_PROGRESS)
            if status is Status.COMPLETED:
                # What cannot be read back is not said to be complete.
                status, failure = Status.FAILED, STORAGE
        preface = [] if stopped.alone else self._sequencer.preface()
        ending = own_end(self._sequencer, snapshot, status, failure, self._settings)
        self._record.frames = [*preface, ending.frame]
        return ending

    async def _fold(self, items: str | None = None) -> JsonObject:
        """Raises StorageFailed."""
        run = self._run
        return await self._snapshots.take(run.store, run.key, run.envelope.snapshot(Status.IN_PROGRESS), items)

    async def _withdraw(self, unsent: WireError | Answer) -> bool:
        """Take the record back as if it had never been; False if a cancel was committed before."""
        run = self._run
        try:
            try:
                await run.store.withdraw(run.key, run.epoch)
            except StorageFailed:
                # Nobody waits for a storage that fails.
                run.refuse(unsent)
                await run.store.show_withdrawn(run.key, run.epoch)
        except Cancelled:
            return False
        run.refuse(unsent)
        return True

    def _ended(self, ending: Ending) -> None:
        self._run.final = ending.result
        words = {"response_id": self._run.key.id, "status": str(ending.status), "events": self._sequencer.seq}
        log.info("run_ended", extra=words)

    def tell_waiters(self) -> None:
        """Whoever waits for anything of this run waits for nothing more."""
        run = self._run
        for event in (run.accepted, run.began, run.ended):
            event.set()


async def end_from_log(store: Store, snapshots: Snapshots, settings: Settings, head: Head, failure: Failure) -> Ending:
    """End a response that nobody writes any more, behind what its log has. Raises StoreError.

    It ends as cancelled if that was asked for, else as failed with `failure`.
    """
    status, words = (Status.CANCELLED, None) if head.cancel_requested else (Status.FAILED, failure)
    waited = head.status is Status.QUEUED
    sequencer = Sequencer.resumed(Envelope(loads(head.envelope)), head.last_seq + 1, waiting=waited)
    initial = sequencer.envelope.snapshot(Status.IN_PROGRESS)
    try:
        snapshot = await snapshots.take(store, head.key, initial, "incomplete")
    except StorageFailed:
        log.exception("log_not_readable", extra={"response_id": head.key.id})
        snapshot = initial
    snapshots.forget(head.key)
    preface = sequencer.preface()
    ending = own_end(sequencer, snapshot, status, words, settings)
    chunk = Chunk.of(head.last_seq + 1, [*preface, ending.frame], clock.now_ms())
    await store.append(head.key, head.epoch, chunk, end=End(ending.status, ending.result, clock.latest_ms()))
    return ending


def own_end(
    sequencer: Sequencer, snapshot: JsonObject, status: Status, failure: Failure | None, settings: Settings
) -> Ending:
    """An end that the agent did not write, over the folded `snapshot`."""
    if status is Status.CANCELLED and settings.cancelled_output == "clear":
        snapshot["output"] = []
    return sequencer.end(snapshot, status, failure, _now())


def failed(failure: Failure) -> Stopped:
    """The agent has answered with 2xx, and then failed."""
    return Stopped(Status.FAILED, failure, unsent=errors.agent_failed(failure.code, failure.message))


def _now() -> int:
    return int(time.time())
