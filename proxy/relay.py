"""One run: the agent's bytes -> messages -> numbered frames -> the log, to exactly one end; and the words it hears.

The relay alone writes its run. A word (cancel, leave, shutdown) interrupts it only where it waits for the agent, never
where it waits for a commit: the order of commits decides every race.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import httpx

from respool.proxy import calls, clock
from respool.proxy import upstream as agent
from respool.proxy.ear import Heard
from respool.proxy.protocol import errors, events
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.jsons import JsonObject, loads
from respool.proxy.protocol.repair import Ending, Failure, Sequencer, failure_of
from respool.proxy.protocol.sse import Decoder, EventTooLarge, Message
from respool.proxy.protocol.unfold import is_response, unfold
from respool.proxy.record import CHUNK_BYTES, Record
from respool.proxy.run import Answer, Run, Word
from respool.proxy.settings import Settings
from respool.proxy.snapshots import Snapshots
from respool.proxy.unpacking import UnknownCoding, coding_of, unpacked
from respool.proxy.upstream import Upstream
from respool.store.base import Cancelled, Chunk, End, Note, StorageFailed, StoreError
from respool.store.crashpoint import Point, reach
from respool.store.status import Status

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Of an answer that is no stream and no success, more than this is not kept.
_REFUSAL_BYTES = 16 * 2**20

SHUTDOWN = Failure("server_shutdown", "The server was shut down before the response was complete.")
_STORAGE = Failure(
    "storage_error",
    "An internal error occurred while storing the response. Subsequent retrieval is not guaranteed. "
    "Please retry the request.",
)
_INTERNAL = Failure("server_error", "internal server error")


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


class Relay:
    """Carries one run from the call of the agent to its end. Await it once, in a task of its own."""

    def __init__(self, run: Run, upstream: Upstream, snapshots: Snapshots, settings: Settings) -> None:
        self._run = run
        self._upstream = upstream
        self._snapshots = snapshots
        self._settings = settings
        self._sequencer = Sequencer.resumed(run.envelope, run.last_seq + 1, waiting=run.queued)
        self._record = Record(run, self._sequencer)
        self._noted_id: str | None = None
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] = _nothing()

    async def __call__(self) -> None:
        """Ends the run, whatever happens; only the end of the process cancels it."""
        run, grace = self._run, None
        if run.plan.background:
            delay = self._settings.accept_grace_ms / 1000
            grace = asyncio.get_running_loop().call_later(delay, run.ear.tell, Word.BEGIN)
        try:
            await self._to_its_end()
        except StoreError:
            log.exception("run_lost", extra={"response_id": run.key.id})
        finally:
            if grace is not None:
                grace.cancel()
            self._tell_waiters()
            self._snapshots.forget(run.key)
            await self._hang_up()

    async def _to_its_end(self) -> None:
        try:
            await self._read_agent()
            await self._end_with_agent()
        except Stopped as stopped:
            # An agent that has said its last word still writes what it must remember.
            is_heard_out = self._sequencer.finished and stopped.failure is _STORAGE
            if not is_heard_out:
                await self._hang_up()
            await self._end_without_agent(stopped)
            if is_heard_out:
                await self._drain()
        except StoreError:
            raise
        except Exception:
            log.exception("relay_failed", extra={"response_id": self._run.key.id})
            with suppress(Cancelled, StorageFailed):
                await self._record.settle()
            # Whatever was made of it and not written must not leave a hole before the end.
            self._record.take_back()
            await self._end_without_agent(Stopped(Status.FAILED, _INTERNAL, unsent=errors.server_error()))
        else:
            self._tell_waiters()
            await self._drain()

    # What the agent says

    async def _read_agent(self) -> None:
        """Relay until the agent's terminal event is held. Raises Stopped for every other way to end."""
        if self._run.queued:
            await self._wait()
        response = self._response = await self._open()
        reach(Point.CALLED)
        self._run.session = response.headers.get("x-agent-session-id")
        if self._run.session:
            self._record.note = Note(session=self._run.session)
        kind = response.headers.get("content-type", "text/event-stream").partition(";")[0].strip().lower()
        if not response.is_success:
            raise await self._refused(response)
        self._pieces = _readable_pieces(response)
        if kind == "text/event-stream":
            self._run.accepted.set()
            await self._read_stream(response)
        elif kind == "application/json":
            await self._read_object()
        else:
            failure = Failure("server_error", f"The agent answered with {kind} instead of a stream.")
            raise _failed(failure)

    async def _wait(self) -> None:
        """Wait for the slot. That the run is in progress is committed before anything is sent: it is sent once."""
        run = self._run
        if run.plan.answer != "json" and not run.slot.has_come:
            await self._begin()
        await self._listen(run.slot.comes)
        try:
            if run.call is None:
                run.call = await calls.recalled(self._settings, run.store, run.key, run.plan)
            await run.store.start(run.key, run.epoch)
        except Cancelled as error:
            raise Stopped(Status.CANCELLED) from error
        except StorageFailed as error:
            log.exception("storage_failed", extra={"response_id": run.key.id})
            raise Stopped(Status.FAILED, _STORAGE, unsent=errors.storage_error(), provisional=True) from error
        self._sequencer.waiting = False
        log.info("run_started", extra={"response_id": run.key.id})

    async def _open(self) -> httpx.Response:
        call = self._run.call
        assert call is not None  # it was recalled when the run had its slot
        # A task of its own, so that a word that is heard meanwhile does not take the call back.
        opening = asyncio.create_task(self._upstream.create(call.body, call.headers, call.query))
        try:
            return await self._listen(lambda: asyncio.shield(opening))
        except httpx.TransportError as error:
            raise Stopped(Status.FAILED, agent.failure(error), unsent=agent.refusal(error)) from error
        except BaseException:
            opening.cancel()
            for response in await asyncio.gather(opening, return_exceptions=True):
                if isinstance(response, httpx.Response):
                    await response.aclose()
            raise

    async def _refused(self, response: httpx.Response) -> Stopped:
        self._pieces = agent.pieces(response)
        body = await self._read_body(_REFUSAL_BYTES)
        failure = _words_of(response, body) or Failure(
            "server_error", f"The agent answered with status {response.status_code}."
        )
        answer = Answer(response.status_code, agent.end_to_end(response.headers.raw, (b"content-length",)), body)
        return Stopped(Status.FAILED, failure, unsent=answer)

    async def _read_object(self) -> None:
        """A JSON answer, turned into the events that would have led to it."""
        body = await self._read_body(self._settings.max_object_bytes)
        try:
            value = loads(body)
        except ValueError:
            value = None
        if not isinstance(value, dict) or not is_response(value):
            failure = failure_of(value) or Failure("server_error", "The agent's answer is not a response object.")
            raise _failed(failure)
        self._run.accepted.set()
        await self._take(unfold(value))

    async def _read_body(self, limit: int) -> bytes:
        body = bytearray()
        try:
            while len(body) <= limit:
                body += await self._listen(self._pieces.__anext__)
        except StopAsyncIteration:
            return bytes(body)
        except httpx.TransportError as error:
            raise _failed(agent.failure(error)) from error
        failure = Failure("event_too_large", f"The agent's answer is larger than {limit} bytes.")
        raise _failed(failure)

    async def _read_stream(self, response: httpx.Response) -> None:
        decoder = Decoder(self._settings.max_event_bytes, self._settings.max_object_bytes)
        passing = partial(self._passes, decoder)
        while not self._sequencer.finished:
            try:
                piece = await self._listen(lambda: agent.next_piece(self._pieces, passing))
            except StopAsyncIteration:
                whole = response.extensions.get("framed", True) and not decoder.pending
                raise self._judged(clean=whole) from None
            except httpx.TransportError as error:
                raise _failed(self._sequencer.error or agent.failure(error)) from error
            # In slices, because events take several times their size while they are looked at.
            for at in range(0, len(piece), CHUNK_BYTES):
                await self._decode(decoder, piece[at : at + CHUNK_BYTES])

    def _passes(self, decoder: Decoder, piece: bytes) -> bool:
        """Write a piece of which nothing but the numbers matters, without a turn of this task; else False, and nothing.

        Nearly everything that an agent says is of this kind, a few events at a time.
        """
        record = self._record
        if len(piece) > CHUNK_BYTES or not record.may_append_soon or not self._run.began.is_set():
            return False
        messages = decoder.whole(piece)
        if messages is None:
            return False
        record.begin()
        frames = self._sequencer.take_alike(messages)
        if frames is None:
            return False
        record.append_soon(frames)
        return True

    async def _decode(self, decoder: Decoder, piece: bytes) -> None:
        if self._sequencer.finished:
            return
        try:
            messages = decoder.feed(piece)
        except EventTooLarge as error:
            await self._take(error.messages)
            failure = Failure("event_too_large", f"The agent sent an event larger than {error.limit} bytes.")
            raise _failed(failure) from error
        await self._take(messages)
        await self._listen(self._run.backlog.room)

    def _judged(self, *, clean: bool) -> Stopped:
        status, failure = self._sequencer.verdict(clean=clean)
        return _failed(failure) if failure is not None else Stopped(status)

    async def _take(self, messages: Iterable[Message]) -> None:
        await self._settle()
        self._record.begin()
        self._record.frames = self._sequencer.take(messages)
        if self._sequencer.agent_id != self._noted_id:
            self._noted_id = self._sequencer.agent_id
            self._record.note = Note(self._noted_id, self._run.session)
        if self._record.frames and (not self._sequencer.finished or self._sequencer.lacks_output):
            await self._append()
        if self._sequencer.bad:
            failure = Failure("server_error", str(events.BadEvent()))
            raise _failed(failure)

    # What is heard meanwhile

    async def _listen(self, wait: Callable[[], Awaitable[Result]]) -> Result:
        while True:
            try:
                return await self._run.ear.listen(wait)
            except Heard as heard:
                match heard.word:
                    case Word.BEGIN:
                        await self._begin()
                    case Word.FAILED:
                        await self._settle()
                    case Word.SHUTDOWN:
                        unsent = errors.shutting_down() if self._sequencer.waiting else None
                        raise Stopped(Status.FAILED, SHUTDOWN, unsent=unsent) from None
                    case _:
                        raise Stopped(Status.CANCELLED) from None

    async def _begin(self) -> None:
        """The grace is over: the client gets its id before the agent has said a word."""
        if not self._sequencer.began:
            self._record.begin()
            self._record.frames = self._sequencer.begin()
            await self._append()
        self._run.began.set()
        self._run.accepted.set()

    # What is written

    async def _append(self, ending: Ending | None = None) -> None:
        """Write the frames made. Raises Stopped."""
        end = End(ending.status, ending.result, clock.latest_ms()) if ending else None
        try:
            await self._record.append(end)
        except (Cancelled, StorageFailed) as error:
            raise self._stopped_by(error) from error
        self._run.began.set()
        if ending is not None:
            self._ended(ending)

    async def _settle(self) -> None:
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
        return Stopped(Status.FAILED, _STORAGE, unsent=errors.storage_error(sent=True), provisional=True)

    async def _end_with_agent(self) -> None:
        output = None
        if self._sequencer.lacks_output:
            self._record.begin()
            try:
                output = (await self._fold())["output"]
            except StorageFailed as error:
                raise Stopped(Status.FAILED, _STORAGE) from error
        ending = self._sequencer.close(_now(), output)
        self._record.frames.append(ending.frame)
        await self._append(ending)

    async def _end_without_agent(self, stopped: Stopped) -> None:
        try:
            await self._settle()
        except Stopped as before:
            stopped = before
        if stopped.unsent is not None and not self._sequencer.began:
            if await self._withdraw(stopped.unsent):
                return
            stopped = Stopped(Status.CANCELLED)
        ending = await self._own_end(stopped)
        try:
            await self._append(ending)
        except Stopped as again:
            if stopped.provisional and again.provisional:
                await self._show(ending)
            else:
                # The storage failed on this very end, or a cancel was committed before it; this happens once each.
                await self._end_without_agent(again)

    async def _show(self, ending: Ending) -> None:
        """Tell an end that the storage does not take.

        It was tried before, and that matters: a commit that failed at its sync is in the file until another is written
        over it, and a crash would bring it back.
        """
        chunk = Chunk.of(self._record.seq, [ending.frame], clock.now_ms())
        self._ended(ending)
        self._tell_waiters()
        end = End(ending.status, ending.result, clock.latest_ms())
        try:
            await self._run.store.show_end(self._run.key, self._run.epoch, chunk, end)
        except Cancelled:
            # A cancel was committed between the failure and this end: what the log says in the end is the cancel.
            self._record.take_back()
            await self._end_without_agent(Stopped(Status.CANCELLED, alone=True))

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
                status, failure = Status.FAILED, _STORAGE
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

    def _tell_waiters(self) -> None:
        run = self._run
        for event in (run.accepted, run.began, run.ended):
            event.set()

    # The agent's connection

    async def _drain(self) -> None:
        """Read the agent to its EOF: some write what they must remember after their terminal event."""
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                while True:
                    try:
                        await self._run.ear.listen(self._pieces.__anext__)
                    except Heard as heard:
                        if heard.word is Word.SHUTDOWN:
                            return
        except (StopAsyncIteration, httpx.TransportError, TimeoutError):
            return

    async def _hang_up(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()


def own_end(
    sequencer: Sequencer, snapshot: JsonObject, status: Status, failure: Failure | None, settings: Settings
) -> Ending:
    """An end that the agent did not write, over the folded `snapshot`."""
    if status is Status.CANCELLED and settings.cancelled_output == "clear":
        snapshot["output"] = []
    return sequencer.end(snapshot, status, failure, _now())


def _failed(failure: Failure) -> Stopped:
    """The agent has answered with 2xx, and then failed."""
    return Stopped(Status.FAILED, failure, unsent=errors.agent_failed(failure.code, failure.message))


def _readable_pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        return agent.unpacked_pieces(response)
    except UnknownCoding as coding:
        failure = Failure(
            "server_error", f"The agent answered with the content coding {coding}, which nobody asked for."
        )
        raise _failed(failure) from coding


def _words_of(response: httpx.Response, body: bytes) -> Failure | None:
    try:
        if (coding := coding_of(response)) is not None:
            body = unpacked(body, coding, _REFUSAL_BYTES)
        return failure_of(loads(body))
    except (ValueError, UnknownCoding, httpx.RemoteProtocolError):
        return None


def _now() -> int:
    return int(time.time())


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
