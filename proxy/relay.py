"""One run: the agent's bytes -> messages -> numbered frames -> the log, to exactly one end; and the words it hears.

The relay alone writes its run. A word (cancel, leave, shutdown) interrupts it only where it waits for the agent, never
where it waits for a commit: the order of commits decides every race.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import httpx

from respool.proxy import calls
from respool.proxy import upstream as agent
from respool.proxy.ear import Heard
from respool.proxy.ends import INTERNAL, SHUTDOWN, STORAGE, Ends, Stopped, end_from_log, failed
from respool.proxy.protocol import errors, events
from respool.proxy.protocol.failure import Failure, failure_of
from respool.proxy.protocol.jsons import loads
from respool.proxy.protocol.repair import Sequencer
from respool.proxy.protocol.sse import Decoder, EventTooLarge, Message
from respool.proxy.protocol.unfold import is_response, unfold
from respool.proxy.record import CHUNK_BYTES, Record
from respool.proxy.run import Answer, Run, Word
from respool.proxy.settings import Settings
from respool.proxy.snapshots import Snapshots
from respool.proxy.unpacking import UnknownCoding, coding_of, unpacked
from respool.proxy.upstream import Upstream
from respool.store.base import Cancelled, Note, StorageFailed, StoreError
from respool.store.crashpoint import Point, reach
from respool.store.status import Status

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Of an answer that is no stream and no success, more than this is not kept.
_REFUSAL_BYTES = 16 * 2**20


class Relay:
    """Carries one run from the call of the agent to its end. Await it once, in a task of its own."""

    def __init__(self, run: Run, upstream: Upstream, snapshots: Snapshots, settings: Settings) -> None:
        self._run = run
        self._upstream = upstream
        self._snapshots = snapshots
        self._settings = settings
        self._sequencer = Sequencer.resumed(run.envelope, run.last_seq + 1, waiting=run.queued)
        self._record = Record(run, self._sequencer)
        self._ends = Ends(run, self._sequencer, self._record, snapshots, settings)
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
        except Exception:
            log.exception("run_lost", extra={"response_id": run.key.id})
            await self._end_from_log()
        finally:
            if grace is not None:
                grace.cancel()
            self._ends.tell_waiters()
            self._snapshots.forget(run.key)
            await self._hang_up()

    async def _to_its_end(self) -> None:
        try:
            await self._read_agent()
            await self._ends.with_agent()
        except Stopped as stopped:
            # An agent that has said its last word still writes what it must remember.
            is_heard_out = self._sequencer.finished and stopped.failure is STORAGE
            if not is_heard_out:
                await self._hang_up()
            await self._ends.without_agent(stopped)
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
            await self._ends.without_agent(Stopped(Status.FAILED, INTERNAL, unsent=errors.server_error()))
        else:
            self._ends.tell_waiters()
            await self._drain()

    async def _end_from_log(self) -> None:
        """A defect of ours leaves no response without its end: the log knows how far it came."""
        run = self._run
        try:
            head = await run.store.head(run.key)
            if not head.status.ended:
                await end_from_log(run.store, self._snapshots, self._settings, head, INTERNAL)
        except StoreError:
            log.exception("run_not_ended", extra={"response_id": run.key.id})

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
            raise failed(failure)

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
            raise Stopped(Status.FAILED, STORAGE, unsent=errors.storage_error(), provisional=True) from error
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
            # Its traceback holds this frame and with it the task, which holds the error.
            cause = error.with_traceback(None)
            raise Stopped(Status.FAILED, agent.failure(error), unsent=agent.refusal(error)) from cause
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
            raise failed(failure)
        self._run.accepted.set()
        await self._take(list(unfold(value)))

    async def _read_body(self, limit: int) -> bytes:
        body = bytearray()
        try:
            while len(body) <= limit:
                body += await self._listen(self._pieces.__anext__)
        except StopAsyncIteration:
            return bytes(body)
        except httpx.TransportError as error:
            raise failed(agent.failure(error)) from error
        failure = Failure("event_too_large", f"The agent's answer is larger than {limit} bytes.")
        raise failed(failure)

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
                raise failed(self._sequencer.error or agent.failure(error)) from error
            # In slices, because events take several times their size while they are looked at.
            for at in range(0, len(piece), CHUNK_BYTES):
                await self._decode(decoder, piece[at : at + CHUNK_BYTES])
                if self._sequencer.finished:
                    # What came with the end is written with it, and until then nothing may be heard.
                    break
                await self._listen(self._run.backlog.room)

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
        try:
            messages = decoder.feed(piece)
        except EventTooLarge as error:
            await self._take(error.messages)
            # What comes behind the end is nobody's.
            if not self._sequencer.finished:
                failure = Failure("event_too_large", f"The agent sent an event larger than {error.limit} bytes.")
                raise failed(failure) from error
        else:
            await self._take(messages)

    def _judged(self, *, clean: bool) -> Stopped:
        status, failure = self._sequencer.verdict(clean=clean)
        return failed(failure) if failure is not None else Stopped(status)

    async def _take(self, messages: Sequence[Message]) -> None:
        await self._ends.settle()
        self._record.begin()
        self._record.frames = self._sequencer.take(messages)
        if self._sequencer.agent_id != self._noted_id:
            self._noted_id = self._sequencer.agent_id
            self._record.note = Note(self._noted_id, self._run.session)
        if self._record.frames and (not self._sequencer.finished or self._sequencer.lacks_output):
            await self._ends.append()
        if self._sequencer.bad:
            failure = Failure("server_error", str(events.BadEvent()))
            raise failed(failure)

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
                        await self._ends.settle()
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
            await self._ends.append()
        self._run.began.set()
        self._run.accepted.set()

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


def _readable_pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        return agent.unpacked_pieces(response)
    except UnknownCoding as coding:
        failure = Failure(
            "server_error", f"The agent answered with the content coding {coding}, which nobody asked for."
        )
        raise failed(failure) from coding


def _words_of(response: httpx.Response, body: bytes) -> Failure | None:
    try:
        if (coding := coding_of(response)) is not None:
            body = unpacked(body, coding, _REFUSAL_BYTES)
        return failure_of(loads(body))
    except (ValueError, UnknownCoding, httpx.RemoteProtocolError):
        return None


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
