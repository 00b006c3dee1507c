"""What the log does by itself, whatever is beneath: group commit, tails, failing storage, closing."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from respool.store.backend import RequestCancel, Write
from respool.store.base import Cancelled, Chunk, Ended, Fenced, Filter, Gap, Key, NotFound, StorageFailed, StoreError
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.status import Status
from tests.store.probe import KEY, OTHER, Probe, chunk, end, follow, head, let_others_run, numbered


class Pauses:
    """A sleep that lasts until the test lets it go on."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.more = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.more.wait()


@pytest.fixture
def probe() -> Probe:
    return Probe(MemoryBackend())


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def store(probe: Probe, pauses: Pauses) -> AsyncIterator[Log]:
    store = Log(probe, tail_bytes=4096, ended_tail_bytes=8192, sleep=pauses)
    await store.create(head(), b"")
    await store.create(head(OTHER), b"")
    yield store
    probe.gate.set()
    pauses.more.set()
    await store.close()


async def test_no_event_is_seen_before_it_is_durable(probe: Probe, store: Log) -> None:
    probe.gate.clear()
    append = asyncio.create_task(store.append(KEY, 1, chunk(0, b"a"), end=end()))
    waiting = asyncio.create_task(store.wait(KEY, -1))
    await let_others_run()
    assert not waiting.done()
    assert not append.done()
    assert await store.read(KEY, -1, 100) == await store.read(OTHER, -1, 100)
    probe.gate.set()
    await waiting
    page = await store.read(KEY, -1, 100)
    assert (numbered(page), page.ended) == ([(0, b"a")], True)
    await append


async def test_writes_gather_while_a_transaction_is_under_way(probe: Probe, store: Log) -> None:
    probe.gate.clear()
    probe.commits = 0
    first = asyncio.create_task(store.append(KEY, 1, chunk(0, b"a")))
    await let_others_run()
    later = [asyncio.create_task(store.append(KEY, 1, chunk(number, b"b"))) for number in range(1, 50)]
    await let_others_run()
    probe.gate.set()
    await asyncio.gather(first, *later)
    assert probe.commits == 2


class Soon:
    """Appends that nobody waits for, and what has become of them."""

    def __init__(self, store: Log) -> None:
        self._store = store
        self.told: list[Exception | None] = []
        self.changed = asyncio.Event()

    def append(self, key: Key, first: int, data: bytes) -> None:
        self._store.append_soon(key, 1, chunk(first, data), self._tell)

    def _tell(self, error: Exception | None) -> None:
        self.told.append(error)
        self.changed.set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is for the log. What lingers does so for an hour."""
    now = [0.0]
    monkeypatch.setattr("respool.store.group_commit.LINGER_SECONDS", 3600.0)
    monkeypatch.setattr("respool.store.group_commit.monotonic", lambda: now[0])
    return now


async def test_appends_that_follow_closely_are_one_transaction_with_what_cannot_wait(
    clock: list[float], probe: Probe, store: Log
) -> None:
    await store.append(KEY, 1, chunk(0, b"a"))
    probe.commits, soon = 0, Soon(store)
    soon.append(KEY, 1, b"b")
    await let_others_run()
    soon.append(OTHER, 0, b"c")
    await let_others_run()
    assert (probe.tried, probe.commits, soon.told) == (3, 0, [])
    await store.append(KEY, 1, chunk(2, b"d"))
    assert (probe.commits, soon.told) == (1, [None, None])
    assert numbered(await store.read(KEY, -1, 100)) == [(0, b"a"), (1, b"b"), (2, b"d")]


async def test_an_append_that_follows_nothing_closely_does_not_wait(
    clock: list[float], probe: Probe, store: Log
) -> None:
    await store.append(KEY, 1, chunk(0, b"a"))
    clock[0] += 3600
    soon = Soon(store)
    soon.append(KEY, 1, b"b")
    await soon.changed.wait()
    assert soon.told == [None]


async def test_what_lingers_is_written_before_the_log_is_closed(clock: list[float], probe: Probe, store: Log) -> None:
    await store.append(KEY, 1, chunk(0, b"a"))
    soon = Soon(store)
    soon.append(KEY, 1, b"b")
    await store.close()
    assert soon.told == [None]


async def test_the_write_of_a_cancelled_caller_goes_on(probe: Probe, store: Log) -> None:
    probe.gate.clear()
    under_way = asyncio.create_task(store.append(KEY, 1, chunk(0, b"a")))
    await let_others_run()
    queued = asyncio.create_task(store.append(KEY, 1, chunk(1, b"b")))
    await let_others_run()
    for caller in (under_way, queued):
        caller.cancel()
    await asyncio.wait({under_way, queued})
    probe.gate.set()
    await store.append(KEY, 1, chunk(2, b"c"), end=end())
    assert await follow(store) == [(0, b"a"), (1, b"b"), (2, b"c")]


async def test_only_the_run_at_fault_fails(probe: Probe, store: Log) -> None:
    probe.broken = {OTHER}
    outcomes = await asyncio.gather(
        store.append(KEY, 1, chunk(0, b"a")),
        store.append(OTHER, 1, chunk(0, b"x")),
        store.append(KEY, 1, chunk(2, b"skips")),
        store.append(OTHER, 1, chunk(1, b"y")),
        store.append(KEY, 1, chunk(1, b"b"), end=end()),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), StorageFailed, Gap, StorageFailed, type(None)]
    assert await follow(store) == [(0, b"a"), (1, b"b")]
    probe.broken = set()
    await store.append(OTHER, 1, chunk(0, b"again"))
    assert numbered(await store.read(OTHER, -1, 100)) == [(0, b"again")]


async def test_a_group_that_no_row_is_to_blame_for_is_not_tried_again_row_by_row(probe: Probe, store: Log) -> None:
    probe.is_down = True
    probe.tried = 0
    appends = [store.append(key, 1, chunk(0, b"a")) for key in (KEY, OTHER)]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageFailed, StorageFailed]
    assert probe.tried == 1
    probe.is_down = False
    await asyncio.gather(*[store.append(key, 1, chunk(0, b"a")) for key in (KEY, OTHER)])


async def test_a_defect_of_the_backend_reaches_the_caller(store: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: MemoryBackend, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        raise TypeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBackend, "commit", broken)
        with pytest.raises(TypeError, match="a defect"):
            await store.append(KEY, 1, chunk(0, b"a"))
    await store.append(KEY, 1, chunk(0, b"a"))


# The tail


async def test_readers_of_the_tail_share_the_bytes_and_leave_the_backend_alone(probe: Probe, store: Log) -> None:
    written = [chunk(0, b"a", b"b"), chunk(2, b"c")]
    for part in written:
        await store.append(KEY, 1, part)
    first, second = await store.read(KEY, -1, 100), await store.read(KEY, -1, 100)
    assert all(a is b is c for a, b, c in zip(first.chunks, second.chunks, written, strict=True))
    assert (await store.read(KEY, 1, 100)).chunks[0] is written[1]
    assert probe.reads == 0


async def test_what_has_left_the_tail_is_read_from_the_backend(probe: Probe, store: Log) -> None:
    for number in range(10):
        await store.append(KEY, 1, chunk(number, b"x" * 1000))
    assert len(numbered(await store.read(KEY, -1, 1 << 20))) == 10
    assert probe.reads == 1
    assert numbered(await store.read(KEY, 8, 1 << 20)) == [(9, b"x" * 1000)]
    assert probe.reads == 1


async def test_an_event_larger_than_the_tail_is_served_from_it(probe: Probe, store: Log) -> None:
    await store.append(KEY, 1, chunk(0, b"x" * 10_000))
    assert numbered(await store.read(KEY, -1, 100)) == [(0, b"x" * 10_000)]
    assert probe.reads == 0


async def test_the_tails_of_ended_responses_are_bounded_together(probe: Probe, store: Log) -> None:
    before = store.held
    keys = [Key("ann", f"e{number}") for number in range(20)]
    for key in keys:
        await store.create(head(key), b"")
        await store.append(key, 1, chunk(0, b"x" * 1000), end=end())
        assert store.held <= before + 8192
    for key in keys:
        assert await follow(store, key) == [(0, b"x" * 1000)]
        await store.wait(key, 0)
    assert 0 < probe.reads < 20


async def test_a_run_that_this_process_did_not_create_can_be_followed(probe: Probe, store: Log) -> None:
    await store.append(KEY, 1, chunk(0, b"a"))
    other = Log(probe.backend)
    follower = asyncio.create_task(follow(other))
    await let_others_run()
    await other.append(KEY, 1, chunk(1, b"b"), end=end())
    assert await follower == [(0, b"a"), (1, b"b")]


async def test_a_follower_that_looks_a_run_up_while_it_ends_and_goes_does_not_wait_for_it(
    probe: Probe, store: Log
) -> None:
    other = Log(probe)
    probe.head_gate.clear()
    waiting = asyncio.create_task(other.wait(KEY, -1))
    await let_others_run()
    await other.append(KEY, 1, chunk(0, b"a"), end=end())
    await other.delete(KEY)
    probe.head_gate.set()
    await waiting


async def test_many_followers_are_all_woken(store: Log) -> None:
    followers = [asyncio.create_task(follow(store)) for _ in range(100)]
    gone = asyncio.create_task(follow(store))
    await let_others_run()
    gone.cancel()
    for number in range(5):
        await store.append(KEY, 1, chunk(number, b"x"))
    await store.append(KEY, 1, None, end=end())
    assert await asyncio.gather(*followers) == [[(number, b"x") for number in range(5)]] * 100


class Taker:
    """A follower that notes what it is given, and cannot take what is in `hard`."""

    def __init__(self, *hard: int, after: int = -1) -> None:
        self.after = after
        self.hard = hard
        self.taken: list[int] = []
        self.knows_the_end = False

    def take(self, chunk: Chunk, is_last: bool) -> bool:
        if chunk.first in self.hard or chunk.first != self.after + 1:
            return False
        self.knows_the_end = is_last
        self.taken.append(chunk.first)
        self.after = chunk.last
        return True


async def test_a_follower_is_given_what_comes_and_sleeps_until_the_end(store: Log) -> None:
    taker = Taker()
    following = asyncio.create_task(store.follow(KEY, taker))
    await let_others_run()
    for number in range(3):
        await store.append(KEY, 1, chunk(number, b"x"))
        assert taker.taken[-1] == number
        assert not taker.knows_the_end
        await let_others_run()
        assert not following.done()
    await store.append(KEY, 1, chunk(3, b"last"), end=end())
    assert (taker.taken, taker.after, taker.knows_the_end) == ([0, 1, 2, 3], 3, True)
    await following


async def test_what_a_follower_does_not_take_wakes_it(store: Log) -> None:
    taker = Taker(1)
    following = asyncio.create_task(store.follow(KEY, taker))
    await let_others_run()
    for number in range(3):
        await store.append(KEY, 1, chunk(number, b"x"))
    await following
    assert (taker.taken, taker.after) == ([0], 0)
    assert numbered(await store.read(KEY, taker.after, 100)) == [(1, b"x"), (2, b"x")]


async def test_a_follower_that_fails_is_woken_and_disturbs_nobody(store: Log) -> None:
    class Failing(Taker):
        def take(self, chunk: Chunk, is_last: bool) -> bool:
            raise ValueError

    takers = [Taker(), Failing(), Taker()]
    following = [asyncio.create_task(store.follow(KEY, taker)) for taker in takers]
    await let_others_run()
    await store.append(KEY, 1, chunk(0, b"x"))
    await following[1]
    assert [taker.taken for taker in takers] == [[0], [], [0]]
    await store.append(KEY, 1, None, end=end())
    await asyncio.gather(*following)


async def test_more_followers_than_are_served_in_one_turn_get_everything_in_order(store: Log) -> None:
    takers = [Taker(*([3] if number % 7 == 0 else [])) for number in range(1000)]
    following = [asyncio.create_task(store.follow(KEY, taker)) for taker in takers]
    await let_others_run()
    following[500].cancel()
    appends = [store.append(KEY, 1, chunk(number, b"x")) for number in range(5)]
    await asyncio.gather(*appends, store.append(KEY, 1, None, end=end()))
    await asyncio.gather(*following, return_exceptions=True)
    assert takers[500].taken == []
    for number, taker in enumerate(takers):
        # The end wakes all of them: who has not been given everything by then reads the rest.
        assert taker.taken == list(range(taker.after + 1))
        assert number == 500 or [at for at, _ in numbered(await store.read(KEY, taker.after, 100))] == [
            *range(taker.after + 1, 5)
        ]
    assert takers[1].taken == [0, 1, 2, 3, 4]


# An end while the storage fails


async def _shown(probe: Probe, store: Log) -> "asyncio.Task[None]":
    """A run whose storage fails at its second event, and whose end has been shown."""
    await store.append(KEY, 1, chunk(0, b"a"))
    probe.broken = {KEY}
    with pytest.raises(StorageFailed):
        await store.append(KEY, 1, chunk(1, b"lost"))
    showing = asyncio.create_task(store.show_end(KEY, 1, chunk(1, b"storage_error"), end(Status.FAILED)))
    await let_others_run()
    return showing


async def test_an_end_is_shown_before_it_is_durable_and_written_when_the_storage_recovers(
    probe: Probe, store: Log, pauses: Pauses
) -> None:
    follower = asyncio.create_task(follow(store))
    showing = await _shown(probe, store)
    assert await follower == [(0, b"a"), (1, b"storage_error")]
    assert not showing.done()
    assert (await store.head(KEY)).status is Status.IN_PROGRESS
    with pytest.raises(Ended):
        await store.request_cancel(KEY)
    probe.broken = set()
    pauses.more.set()
    await showing
    assert (await store.head(KEY)).status is Status.FAILED
    assert await follow(store) == await follow(Log(probe.backend)) == [(0, b"a"), (1, b"storage_error")]


async def test_the_pauses_between_the_attempts_grow_to_a_second(probe: Probe, store: Log) -> None:
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 7:
            probe.broken = set()

    probe.broken = {KEY}
    await Log(probe, sleep=sleep).show_end(KEY, 1, chunk(0, b"storage_error"), end(Status.FAILED))
    assert asked == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


async def test_a_shown_end_is_given_up_when_the_store_closes(probe: Probe, store: Log, pauses: Pauses) -> None:
    showing = await _shown(probe, store)
    await store.close()
    pauses.more.set()
    await showing
    (orphan,) = await Log(probe.backend).list(Filter(owner=KEY.owner, status=Status.IN_PROGRESS, after=OTHER.id))
    assert (orphan.key, orphan.last_seq) == (KEY, 0)


@pytest.mark.parametrize("first", [0, 2])
async def test_an_end_that_does_not_continue_the_log_is_not_shown(store: Log, first: int) -> None:
    await store.append(KEY, 1, chunk(0, b"a"))
    with pytest.raises(Gap):
        await store.show_end(KEY, 1, chunk(first, b"end"), end(Status.FAILED))
    assert numbered(await store.read(KEY, -1, 100)) == [(0, b"a")]


async def test_a_shown_end_that_the_storage_refuses_is_taken_back(probe: Probe, store: Log) -> None:
    await probe.backend.commit([RequestCancel(KEY)])
    with pytest.raises(Cancelled):
        await store.show_end(KEY, 1, chunk(0, b"end"), end(Status.FAILED))
    follower = asyncio.create_task(follow(store))
    await let_others_run()
    await store.append(KEY, 1, chunk(0, b"cancelled"), end=end(Status.CANCELLED))
    assert await follower == [(0, b"cancelled")]


async def test_a_fenced_end_is_taken_back(store: Log) -> None:
    await store.adopt()
    with pytest.raises(Fenced):
        await store.show_end(KEY, 1, chunk(0, b"end"), end(Status.FAILED))
    assert not (await store.read(KEY, -1, 100)).ended


# A withdrawal while the storage fails


async def test_a_withdrawal_is_shown_before_it_is_durable_and_written_when_the_storage_recovers(
    probe: Probe, store: Log, pauses: Pauses
) -> None:
    follower = asyncio.create_task(follow(store))
    await let_others_run()
    probe.broken = {KEY}
    withdrawing = asyncio.create_task(store.show_withdrawn(KEY, 1))
    await let_others_run()
    for attempt in (store.head(KEY), store.request(KEY), store.result(KEY), store.delete(KEY), follower):
        with pytest.raises(NotFound):
            await attempt
    with pytest.raises(NotFound):
        await store.request_cancel(KEY)
    await store.wait(KEY, -1)
    assert [found.key for found in await store.list(Filter(limit=1))] == [OTHER]
    with pytest.raises(StorageFailed):
        await store.create(head(), b"")
    assert not withdrawing.done()
    probe.broken = set()
    pauses.more.set()
    await withdrawing
    await store.create(head(), b"again")
    assert await store.request(KEY) == b"again"


async def test_a_shown_withdrawal_that_the_storage_refuses_is_taken_back(probe: Probe, store: Log) -> None:
    await probe.backend.commit([RequestCancel(KEY)])
    with pytest.raises(Cancelled):
        await store.show_withdrawn(KEY, 1)
    assert (await store.head(KEY)).cancel_requested


async def test_a_shown_withdrawal_is_given_up_when_the_store_closes(probe: Probe, store: Log, pauses: Pauses) -> None:
    probe.broken = {KEY}
    withdrawing = asyncio.create_task(store.show_withdrawn(KEY, 1))
    await let_others_run()
    await store.close()
    pauses.more.set()
    await withdrawing
    assert (await probe.backend.head(KEY)).last_seq == -1


# Closing


async def test_close_writes_what_is_queued(probe: Probe, store: Log) -> None:
    probe.gate.clear()
    appends = [asyncio.create_task(store.append(KEY, 1, chunk(number, b"x"))) for number in range(3)]
    await let_others_run()
    closing = asyncio.create_task(store.close())
    await let_others_run()
    assert not closing.done()
    probe.gate.set()
    await asyncio.gather(closing, *appends)
    assert len(numbered(await probe.backend.read(KEY, -1, 100))) == 3


async def test_a_closed_store_wakes_its_followers_and_refuses_everything(store: Log) -> None:
    waiting = asyncio.create_task(store.wait(KEY, -1))
    await let_others_run()
    await store.close()
    await waiting
    await store.wait(KEY, -1)
    for attempt in (
        store.read(KEY, -1, 100),
        store.head(KEY),
        store.append(KEY, 1, chunk(0, b"a")),
        store.show_end(KEY, 1, chunk(0, b"a"), end()),
        store.list(Filter()),
        store.ping(),
    ):
        with pytest.raises(StorageFailed, match="closed"):
            await attempt
    await store.close()
