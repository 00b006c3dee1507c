"""What a relay writes without waiting: numbered from where it stood, and taken back when the storage fails."""

import asyncio

import pytest

from respool.proxy.ear import Heard
from respool.proxy.protocol.repair import Sequencer
from respool.proxy.protocol.rules import Plan
from respool.proxy.record import Record
from respool.proxy.run import Run, Word
from respool.proxy.slots import Slots
from respool.store.base import StorageFailed
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from tests.protocol.outgoing import ENVELOPE
from tests.store.probe import KEY, Probe, end, follow, head

BEGIN = [b"event: response.created\n\n", b"event: response.in_progress\n\n"]
DELTAS = [b"delta 2\n\n", b"delta 3\n\n"]


@pytest.fixture
def probe() -> Probe:
    return Probe(MemoryBackend())


@pytest.fixture
async def run(probe: Probe) -> Run:
    store = Log(probe)
    await store.create(head(), b"")
    return Run(KEY, Plan(True, True, True, "sse"), ENVELOPE, None, store, Slots(0).ask())


@pytest.fixture
async def record(run: Run) -> Record:
    """Of a run whose first two events are written, and whose next two are numbered."""
    sequencer = Sequencer(ENVELOPE)
    record = Record(run, sequencer)
    record.frames = list(BEGIN)
    sequencer.seq = 2
    await record.append()
    record.begin()
    sequencer.seq = 4
    return record


async def test_what_is_written_soon_stands_behind_what_was_written(run: Run, record: Record) -> None:
    record.append_soon(DELTAS)
    assert not record.may_append_soon
    await record.settle()
    assert (record.seq, record.may_append_soon) == (4, True)
    await run.store.append(KEY, 1, None, end=end())
    assert await follow(run.store) == list(enumerate(BEGIN + DELTAS))


async def test_what_could_not_be_written_is_taken_back_and_told_once(probe: Probe, run: Run, record: Record) -> None:
    probe.is_down = True
    record.append_soon(DELTAS)
    with pytest.raises(StorageFailed):
        await record.settle()
    assert (record.seq, record.may_append_soon) == (2, True)
    await record.settle()
    probe.is_down = False
    record.frames = [b"failed\n\n"]
    await record.append(end=end())
    assert await follow(run.store) == list(enumerate([*BEGIN, b"failed\n\n"]))


async def test_its_relay_hears_that_it_failed_where_it_listens(probe: Probe, run: Run, record: Record) -> None:
    probe.is_down = True
    record.append_soon(DELTAS)
    with pytest.raises(Heard) as heard:
        await run.ear.listen(asyncio.Event().wait)
    assert heard.value.word is Word.FAILED
    assert not record.may_append_soon
