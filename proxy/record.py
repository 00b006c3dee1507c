"""What a relay writes: the frames of its sequencer, numbered from where it stood. What is not written is taken back."""

import asyncio
from collections.abc import Iterator

from respool.proxy.clock import now_ms
from respool.proxy.protocol.repair import Sequencer
from respool.proxy.run import Run, Word
from respool.store.base import Cancelled, Chunk, End, Note, StorageFailed

# A chunk is the unit of reading, so a longer batch is written as several.
CHUNK_BYTES = 256 * 1024


class Record:
    """The events of one run on their way into its store. Only its relay writes, one write after the other.

    `frames` are those made since `begin`, `note` is what goes with the next of them.
    """

    def __init__(self, run: Run, sequencer: Sequencer) -> None:
        self.frames: list[bytes] = []
        self.note: Note | None = None
        self._run = run
        self._sequencer = sequencer
        self._mark = sequencer.mark()
        self._is_settled = True
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def seq(self) -> int:
        """The number of the next event that is written."""
        return self._mark[0]

    def begin(self) -> None:
        """Frames are going to be made. Everything that was made before is written or taken back."""
        self._mark = self._sequencer.mark()

    def take_back(self) -> None:
        """Forget what was made and not written."""
        self._sequencer.rewind(self._mark)

    async def append(self, end: End | None = None) -> None:
        """Write the frames; returns when they are durable. Raises as Store.append."""
        run, seq = self._run, self.seq
        frames, self.frames = self.frames, []
        try:
            for chunk, is_last in _chunks(frames, seq):
                await run.store.append(run.key, run.epoch, chunk, note=self.note, end=end if is_last else None)
                self.note = None
                seq = chunk.last + 1
                run.backlog.add(len(chunk.data))
        except (Cancelled, StorageFailed):
            self._sequencer.rewind(self._mark if seq == self.seq else (seq, *self._sequencer.mark()[1:]))
            raise
        self.begin()

    @property
    def may_append_soon(self) -> bool:
        """Whether everything before is written, there is nothing to go with the next, and the reader keeps up."""
        run = self._run
        return self._is_settled and self._failure is None and self.note is None and run.backlog.has_room

    def append_soon(self, frames: list[bytes]) -> None:
        """Write frames made since `begin` without waiting; the relay hears a word if that fails, see `settle`."""
        chunk = Chunk.of(self.seq, frames, now_ms())
        self._is_settled = False
        self._run.backlog.add(len(chunk.data))
        self._run.store.append_soon(self._run.key, self._run.epoch, chunk, self._told)

    def _told(self, failure: Exception | None) -> None:
        self._is_settled = True
        if failure is None:
            self.begin()
        else:
            self._failure = failure
            self._run.ear.tell(Word.FAILED)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def settle(self) -> None:
        """Wait for what `append_soon` has begun. Raises as Store.append, once; then it is taken back."""
        if not self._is_settled:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        failure, self._failure = self._failure, None
        if failure is not None:
            self.take_back()
            raise failure


def _chunks(frames: list[bytes], first: int) -> Iterator[tuple[Chunk, bool]]:
    """The frames in chunks of about CHUNK_BYTES, and whether it is the last."""
    now, start, size = now_ms(), 0, 0
    for at, frame in enumerate(frames):
        if size and size + len(frame) > CHUNK_BYTES:
            yield Chunk.of(first + start, frames[start:at], now), False
            start, size = at, 0
        size += len(frame)
    yield Chunk.of(first + start, frames[start:], now), True
