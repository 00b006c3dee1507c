"""What every backend must do beneath a Log. A backend's test file subclasses Conformance and supplies `backend`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace

import pytest

from respool.store.backend import Backend
from respool.store.base import (
    CLAIM_SECONDS,
    Begun,
    Cancelled,
    Chunk,
    Claim,
    Claimed,
    Ended,
    Exists,
    Fenced,
    Filter,
    Gap,
    InFlight,
    Key,
    Note,
    NotFound,
    StoreError,
)
from respool.store.log import Log
from respool.store.readings import SPARED_SECONDS
from respool.store.status import Status
from tests.store.probe import KEY, OTHER, Probe, chunk, end, follow, head, let_others_run, numbered

TAIL_BYTES = 4096


class Conformance:
    """The suite."""

    @pytest.fixture
    def probe(self, backend: Backend) -> Probe:
        return Probe(backend)

    @pytest.fixture
    async def store(self, probe: Probe) -> AsyncIterator[Log]:
        store = Log(probe, tail_bytes=TAIL_BYTES, ended_tail_bytes=2 * TAIL_BYTES)
        yield store
        await store.close()

    @pytest.fixture
    async def run(self, store: Log) -> None:
        await store.create(head(), b'{"input":"hi"}')

    # What is remembered

    async def test_a_new_response_is_found_as_it_was_created(self, store: Log) -> None:
        new = replace(head(conversation="c"), agent_id="a1", session="s1", background=False, created_at_ms=5)
        await store.create(new, b"body\x00\xff")
        assert await store.head(KEY) == new
        assert await store.request(KEY) == b"body\x00\xff"
        assert await store.result(KEY) is None

    async def test_an_id_is_taken_only_once_by_an_owner(self, store: Log, run: None) -> None:
        with pytest.raises(Exists):
            await store.create(head(), b"other")
        assert await store.request(KEY) == b'{"input":"hi"}'

    async def test_two_owners_may_hold_the_same_id(self, store: Log, run: None) -> None:
        bob = Key("bob", KEY.id)
        await store.create(head(bob), b"bob's")
        await store.append(bob, 1, chunk(0, b"for bob"), end=end())
        assert (await store.head(KEY)).last_seq == -1
        assert (await store.read(KEY, -1, 100)).chunks == ()
        assert await store.request(bob) == b"bob's"

    async def test_another_owners_response_is_not_found_by_any_method(self, store: Log, run: None) -> None:
        await self._is_not_found(store, Key("bob", KEY.id))
        assert (await store.head(KEY)).cancel_requested is False

    async def test_a_deleted_response_is_not_found_by_any_method(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"a"), end=end())
        await store.delete(KEY)
        await self._is_not_found(store, KEY)

    async def _is_not_found(self, store: Log, key: Key) -> None:
        attempts: list[Awaitable[object]] = [
            store.head(key),
            store.request(key),
            store.result(key),
            store.read(key, -1, 100),
            store.append(key, 1, chunk(0, b"a")),
            store.append(key, 1, None, end=end()),
            store.show_end(key, 1, chunk(0, b"a"), end()),
            store.start(key, 1),
            store.call(key),
            store.withdraw(key, 1),
            store.request_cancel(key),
            store.delete(key),
        ]
        for attempt in attempts:
            with pytest.raises(NotFound):
                await attempt
        await store.wait(key, -1)

    async def test_a_withdrawn_response_leaves_its_id_free(self, store: Log, run: None) -> None:
        await store.withdraw(KEY, 1)
        with pytest.raises(NotFound):
            await store.head(KEY)
        await store.create(head(), b"second")
        await store.append(KEY, 1, chunk(0, b"of the second"))
        assert numbered(await store.read(KEY, -1, 100)) == [(0, b"of the second")]

    async def test_a_note_adds_to_what_is_known(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, None, note=Note(agent_id="a1"))
        await store.append(KEY, 1, chunk(0, b"a"), note=Note(session="s1"))
        found = await store.head(KEY)
        assert (found.agent_id, found.session, found.last_seq) == ("a1", "s1", 0)

    async def test_the_end_shows_in_head_and_result(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"a", b"b"), end=end(Status.INCOMPLETE, b"final"))
        found = await store.head(KEY)
        assert (found.status, found.ended_at_ms, found.last_seq) == (Status.INCOMPLETE, 1_700_000_001_000, 1)
        assert await store.result(KEY) == b"final"

    async def test_a_response_may_end_without_an_event(self, store: Log, run: None) -> None:
        follower = asyncio.create_task(follow(store))
        await let_others_run()
        await store.append(KEY, 1, None, end=end())
        assert await follower == []
        assert (await store.head(KEY)).status is Status.COMPLETED

    # Responses that wait

    async def test_a_queued_response_starts_once(self, store: Log) -> None:
        await store.create(head(status=Status.QUEUED), b"body", call=b"headers")
        assert (await store.head(KEY)).status is Status.QUEUED
        assert await store.call(KEY) == b"headers"
        assert await _together(store.start(KEY, 1), store.start(KEY, 1)) == [None, Begun]
        assert (await store.head(KEY)).status is Status.IN_PROGRESS
        assert await store.call(KEY) is None
        await store.append(KEY, 1, chunk(0, b"a"), end=end())
        with pytest.raises(Ended):
            await store.start(KEY, 1)

    async def test_what_did_not_wait_cannot_start(self, store: Log, run: None) -> None:
        with pytest.raises(Begun):
            await store.start(KEY, 1)
        assert await store.call(KEY) is None

    async def test_a_cancel_that_is_committed_first_refuses_the_start(self, store: Log) -> None:
        await store.create(head(status=Status.QUEUED), b"", call=b"headers")
        assert await _together(store.request_cancel(KEY), store.start(KEY, 1)) == [None, Cancelled]
        await store.append(KEY, 1, chunk(0, b"a"), end=end(Status.CANCELLED))
        assert await store.call(KEY) is None

    async def test_a_queued_response_can_be_told_of_before_it_starts(self, store: Log) -> None:
        await store.create(head(status=Status.QUEUED), b"")
        await store.append(KEY, 1, chunk(0, b"created", b"queued"))
        assert (await store.head(KEY)).status is Status.QUEUED
        with pytest.raises(InFlight):
            await store.delete(KEY)
        await store.start(KEY, 1)
        await store.append(KEY, 1, chunk(2, b"in progress"), end=end())
        assert len(await follow(store)) == 3

    async def test_what_was_kept_for_a_start_outlives_an_adoption_but_not_its_response(self, store: Log) -> None:
        await store.create(head(status=Status.QUEUED), b"", call=b"headers")
        await store.adopt()
        with pytest.raises(Fenced):
            await store.start(KEY, 1)
        assert await store.call(KEY) == b"headers"
        await store.withdraw(KEY, 2)
        with pytest.raises(NotFound):
            await store.call(KEY)
        await store.create(head(), b"")
        assert await store.call(KEY) is None

    # Idempotency keys

    async def test_a_key_belongs_to_the_first_response_that_claims_it(self, store: Log) -> None:
        await store.create(head(), b"", Claim("k", b"digest"))
        with pytest.raises(Claimed) as refused:
            await store.create(head(OTHER), b"", Claim("k", b"another"))
        assert (refused.value.key, refused.value.digest) == (KEY, b"digest")
        assert await self._ids(store, Filter()) == [KEY.id]
        found = await store.claimed("ann", "k", head().created_at)
        assert (found.key, found.digest) == (KEY, b"digest")

    async def test_a_key_that_is_claimed_is_told_before_an_id_that_is_taken(self, store: Log) -> None:
        await store.create(head(), b"", Claim("k", b""))
        with pytest.raises(Claimed):
            await store.create(head(), b"", Claim("k", b""))
        with pytest.raises(Exists):
            await store.create(head(), b"", Claim("other", b""))
        with pytest.raises(NotFound):
            await store.claimed("ann", "other", head().created_at)

    async def test_of_many_creates_with_one_key_at_once_one_is_made(self, store: Log) -> None:
        keys = [Key("ann", f"r{number}") for number in range(50)]
        outcomes = await _together(*(store.create(head(key), b"", Claim("k", b"")) for key in keys))
        assert outcomes == [None] + [Claimed] * 49
        assert await self._ids(store, Filter()) == ["r0"]

    async def test_another_owners_key_and_a_create_without_one_are_free(self, store: Log) -> None:
        await store.create(head(), b"", Claim("k", b""))
        await store.create(head(OTHER), b"")
        await store.create(head(Key("ann", "r3")), b"")
        await store.create(head(Key("bob", "r1")), b"", Claim("k", b""))
        assert (await store.claimed("bob", "k", head().created_at)).key == Key("bob", "r1")

    async def test_a_key_is_free_again_when_its_response_is_withdrawn_or_deleted(self, store: Log) -> None:
        for number in range(3):
            await store.create(head(), b"%d" % number, Claim("k", b"%d" % number))
            if number == 0:
                await store.withdraw(KEY, 1)
            if number == 1:
                await store.append(KEY, 1, None, end=end())
                await store.delete(KEY)
            if number < 2:
                with pytest.raises(NotFound):
                    await store.claimed("ann", "k", head().created_at)
        assert (await store.claimed("ann", "k", head().created_at)).digest == b"2"

    async def test_a_key_is_free_again_after_a_day_and_then_belongs_to_the_next(self, store: Log) -> None:
        then = head().created_at
        await store.create(head(), b"", Claim("k", b"first"))
        late = replace(head(OTHER), created_at=then + CLAIM_SECONDS - 1)
        with pytest.raises(Claimed):
            await store.create(late, b"", Claim("k", b"second"))
        await store.create(replace(late, created_at=then + CLAIM_SECONDS), b"", Claim("k", b"second"))
        found = await store.claimed("ann", "k", then + CLAIM_SECONDS)
        assert (found.key, found.digest) == (OTHER, b"second")
        await store.append(KEY, 1, None, end=end())
        await store.delete(KEY)
        assert (await store.claimed("ann", "k", then + CLAIM_SECONDS)).key == OTHER

    # What is refused

    @pytest.mark.parametrize("events", [chunk(0, b"again"), chunk(1, b"overlaps", b"c"), chunk(3, b"skips"), chunk(2)])
    async def test_events_that_do_not_continue_the_log_are_refused_whole(
        self, store: Log, run: None, events: Chunk
    ) -> None:
        await store.append(KEY, 1, chunk(0, b"a", b"b"))
        with pytest.raises(Gap):
            await store.append(KEY, 1, events, end=end())
        assert numbered(await store.read(KEY, -1, 100)) == [(0, b"a"), (1, b"b")]
        assert (await store.head(KEY)).status is Status.IN_PROGRESS

    async def test_an_append_behind_a_refused_one_is_refused_too(self, store: Log, run: None) -> None:
        outcomes = await _together(
            store.append(KEY, 1, chunk(1, b"skips")),
            store.append(KEY, 1, chunk(2, b"follows it")),
            store.append(KEY, 1, chunk(0, b"fits")),
        )
        assert outcomes == [Gap, Gap, None]

    async def test_nothing_follows_the_end(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"a"), end=end())
        for attempt in (
            store.append(KEY, 1, chunk(1, b"b")),
            store.append(KEY, 1, None, end=end(Status.FAILED)),
            store.show_end(KEY, 1, chunk(1, b"b"), end(Status.FAILED)),
            store.withdraw(KEY, 1),
            store.request_cancel(KEY),
        ):
            with pytest.raises(Ended):
                await attempt
        assert (await store.head(KEY)).status is Status.COMPLETED
        assert await follow(store) == [(0, b"a")]

    async def test_a_response_in_flight_cannot_be_deleted(self, store: Log, run: None) -> None:
        with pytest.raises(InFlight):
            await store.delete(KEY)
        assert (await store.head(KEY)).status is Status.IN_PROGRESS

    async def test_who_was_taken_over_cannot_write(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"a"))
        assert await store.adopt() == [replace(head(), epoch=2, last_seq=0)]
        for attempt in (store.append(KEY, 1, chunk(1, b"b")), store.withdraw(KEY, 1)):
            with pytest.raises(Fenced):
                await attempt
        await store.append(KEY, 2, chunk(1, b"from the new one"), end=end(Status.FAILED))
        assert await follow(store) == [(0, b"a"), (1, b"from the new one")]

    async def test_only_what_has_not_ended_is_adopted(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, None, end=end())
        await store.create(head(OTHER, status=Status.QUEUED), b"")
        adopted = await store.adopt()
        assert [(orphan.key, orphan.status, orphan.epoch) for orphan in adopted] == [(OTHER, Status.QUEUED, 2)]

    # Commit order decides

    async def test_after_a_cancel_only_an_end_as_cancelled_is_accepted(self, store: Log, run: None) -> None:
        await store.request_cancel(KEY)
        await store.request_cancel(KEY)
        assert (await store.head(KEY)).cancel_requested
        for attempt in (
            store.append(KEY, 1, chunk(0, b"a")),
            store.append(KEY, 1, chunk(0, b"a"), end=end()),
            store.append(KEY, 1, None, note=Note("a1")),
            store.withdraw(KEY, 1),
        ):
            with pytest.raises(Cancelled):
                await attempt
        await store.append(KEY, 1, chunk(0, b"last words"), end=end(Status.CANCELLED))
        assert (await store.head(KEY)).status is Status.CANCELLED
        assert await follow(store) == [(0, b"last words")]

    async def test_a_cancel_that_is_committed_first_refuses_the_end(self, store: Log, run: None) -> None:
        outcomes = await _together(store.request_cancel(KEY), store.append(KEY, 1, chunk(0, b"a"), end=end()))
        assert outcomes == [None, Cancelled]

    async def test_an_end_that_is_committed_first_refuses_the_cancel(self, store: Log, run: None) -> None:
        outcomes = await _together(store.append(KEY, 1, chunk(0, b"a"), end=end()), store.request_cancel(KEY))
        assert outcomes == [None, Ended]
        assert (await store.head(KEY)).cancel_requested is False

    async def test_of_two_ends_the_first_counts(self, store: Log, run: None) -> None:
        outcomes = await _together(
            store.append(KEY, 1, None, end=end(Status.FAILED, b"first")), store.append(KEY, 1, None, end=end())
        )
        assert outcomes == [None, Ended]
        assert await store.result(KEY) == b"first"

    # Reading

    async def test_events_come_back_as_the_bytes_that_were_written(self, store: Log, run: None) -> None:
        events = [b"", b"\x00\xff\r\n", b"x" * 100_000, "ü\u2028".encode()]
        await store.append(KEY, 1, chunk(0, *events), end=end())
        assert await follow(store) == list(enumerate(events))

    async def test_what_was_read_before_the_end_is_read_with_it_afterwards(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"a"))
        before = await store.read(KEY, -1, 100)
        await store.append(KEY, 1, None, end=end())
        after = await store.read(KEY, -1, 100)
        assert (numbered(before), before.ended) == ([(0, b"a")], False)
        assert (numbered(after), after.ended) == ([(0, b"a")], True)

    async def test_a_page_from_history_is_the_page_from_memory(self, probe: Probe, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"a", b"bb"))
        await store.append(KEY, 1, chunk(2, b"ccc"), end=end())
        for after in range(-1, 3):
            for max_bytes in range(8):
                hot, cold = await store.read(KEY, after, max_bytes), await probe.backend.read(KEY, after, max_bytes)
                assert (list(hot.chunks), hot.ended) == (list(cold.chunks), cold.ended)

    @pytest.mark.parametrize("after", [-(2**70), -2, -1])
    async def test_a_negative_cursor_is_before_the_first_event(self, store: Log, run: None, after: int) -> None:
        await store.append(KEY, 1, chunk(0, b"a"))
        assert numbered(await store.read(KEY, after, 100)) == [(0, b"a")]

    @pytest.mark.parametrize("after", [1, 2, 2**63, 2**70])
    async def test_a_cursor_at_or_beyond_the_end_is_empty(
        self, probe: Probe, store: Log, run: None, after: int
    ) -> None:
        await store.append(KEY, 1, chunk(0, b"a", b"b"))
        assert await store.read(KEY, after, 100) == await store.read(KEY, 1, 100)
        assert not (await store.read(KEY, after, 100)).ended
        await store.append(KEY, 1, None, end=end())
        assert (await store.read(KEY, after, 100)).ended
        page = await Log(probe.backend).read(KEY, after, 100)
        assert (list(page.chunks), page.ended) == ([], True)

    async def test_history_in_small_pages_is_the_whole(self, store: Log, run: None) -> None:
        events = await self._long_run(store)
        for max_bytes in (0, 1, 999, 10_000, 1 << 20):
            assert await follow(store, max_bytes=max_bytes) == events

    async def test_a_reader_may_begin_at_any_number(self, store: Log, run: None) -> None:
        events = await self._long_run(store)
        for after in range(-1, len(events)):
            assert await follow(store, after=after) == events[after + 1 :]

    async def test_a_page_holds_no_more_than_was_asked_for(self, store: Log, run: None) -> None:
        await self._long_run(store)
        for after in range(-1, 199):
            page = await store.read(KEY, after, 500)
            assert sum(len(part.data) for part in page.chunks) <= 500

    @pytest.mark.parametrize("size", [2**20, 2**20 + 1, 5_000_000])
    async def test_large_bodies_and_events_come_back_as_they_were_written(self, store: Log, size: int) -> None:
        large = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        events = [b"first", large, b"between", large[::-1], b"last"]
        await store.create(head(), large)
        for number, event in enumerate(events):
            await store.append(KEY, 1, chunk(number, event))
        await store.append(KEY, 1, None, end=end(result=large))
        assert (await store.request(KEY), await store.result(KEY)) == (large, large)
        for max_bytes in (1, size, 2 * size + 100, 10 * size):
            assert await follow(store, max_bytes=max_bytes) == list(enumerate(events))

    async def test_a_large_event_may_come_as_a_buffer(self, store: Log, run: None) -> None:
        """As the relay makes them: one that is edited in place, and an object that is a view of it."""
        event = bytearray(b"y" * 3_000_000)
        await store.append(KEY, 1, chunk(0, event), end=end(result=memoryview(event)[5:]))  # type: ignore[arg-type]
        for max_bytes in (1, 10_000_000):
            assert await follow(store, max_bytes=max_bytes) == [(0, bytes(event))]
        assert await store.result(KEY) == b"y" * 2_999_995

    async def _long_run(self, store: Log) -> list[tuple[int, bytes]]:
        """200 events in chunks of 1 to 7, several tails long."""
        events = [f"{number:03}".encode() * 30 for number in range(200)]
        first, size = 0, 1
        while first < len(events):
            await store.append(KEY, 1, chunk(first, *events[first : first + size]))
            first, size = first + size, size % 7 + 1
        await store.append(KEY, 1, None, end=end())
        return list(enumerate(events))

    async def test_a_reader_from_the_start_keeps_up_with_a_run_of_many_tails(self, store: Log, run: None) -> None:
        follower = asyncio.create_task(follow(store, max_bytes=3000))
        event = b"x" * 512
        total = 100 * TAIL_BYTES // len(event)
        for number in range(total):
            await store.append(KEY, 1, chunk(number, event))
            assert store.held <= TAIL_BYTES
        await store.append(KEY, 1, None, end=end())
        assert await follower == [(number, event) for number in range(total)]

    # Waiting

    async def test_wait_returns_at_once_where_there_is_something_to_read(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"a"))
        await store.wait(KEY, -1)
        await store.append(KEY, 1, None, end=end())
        await store.wait(KEY, 0)
        await store.wait(KEY, 99)

    async def test_a_follower_gets_each_event_as_it_is_written(self, store: Log, run: None) -> None:
        for number in range(3):
            waiting = asyncio.create_task(store.wait(KEY, number - 1))
            await let_others_run()
            assert not waiting.done()
            await store.append(KEY, 1, chunk(number, b"event"))
            await waiting

    async def test_a_replay_that_is_running_is_cut_by_delete(self, store: Log, run: None) -> None:
        events = await self._long_run(store)
        page = await store.read(KEY, -1, 1000)
        await store.delete(KEY)
        for after in (page.chunks[-1].last, len(events) - 2):
            await store.wait(KEY, after)
            with pytest.raises(NotFound):
                await store.read(KEY, after, 1000)

    async def test_a_follower_is_woken_by_withdrawal(self, store: Log, run: None) -> None:
        follower = asyncio.create_task(follow(store))
        await let_others_run()
        await store.withdraw(KEY, 1)
        with pytest.raises(NotFound):
            await follower

    async def test_a_follower_stays_when_a_run_is_taken_over(self, store: Log, run: None) -> None:
        follower = asyncio.create_task(follow(store))
        await let_others_run()
        await store.adopt()
        await store.append(KEY, 2, chunk(0, b"owner_lost"), end=end(Status.FAILED))
        assert await follower == [(0, b"owner_lost")]

    # Transactions

    async def test_a_burst_of_appends_is_few_transactions(self, probe: Probe, store: Log) -> None:
        keys = [Key("ann", f"r{number}") for number in range(100)]
        await asyncio.gather(*(store.create(head(key), b"") for key in keys))
        probe.commits = 0
        await asyncio.gather(*(self._appends(store, key, 100) for key in keys))
        assert probe.commits < 1000
        assert {(await store.head(key)).last_seq for key in keys} == {99}

    async def _appends(self, store: Log, key: Key, count: int) -> None:
        for number in range(count):
            await store.append(key, 1, chunk(number, b"event"))

    async def test_a_create_its_events_and_its_end_may_share_a_transaction(self, probe: Probe, store: Log) -> None:
        await asyncio.gather(
            store.create(head(), b""),
            store.append(KEY, 1, chunk(0, b"a")),
            store.append(KEY, 1, chunk(1, b"b"), end=end()),
            store.delete(KEY),
            store.create(head(), b"again"),
        )
        assert probe.commits == 1
        found = await store.head(KEY)
        assert (found.status, found.last_seq, await store.request(KEY)) == (Status.IN_PROGRESS, -1, b"again")

    # Lists

    async def test_a_list_is_newest_first_and_in_pages(self, store: Log) -> None:
        for number in range(5):
            await store.create(head(Key("ann", f"r{number}")), b"")
        assert await self._ids(store, Filter()) == ["r4", "r3", "r2", "r1", "r0"]
        assert await self._ids(store, Filter(limit=2)) == ["r4", "r3"]
        assert await self._ids(store, Filter(limit=2, after="r3")) == ["r2", "r1"]
        assert await self._ids(store, Filter(after="r0")) == []

    async def test_a_list_shows_what_its_filter_says(self, store: Log) -> None:
        await store.create(head(Key("ann", "a1"), conversation="c1"), b"")
        await store.create(head(Key("bob", "b1"), conversation="c1"), b"")
        await store.create(head(Key("ann", "a2"), conversation="c2"), b"")
        await store.append(Key("ann", "a2"), 1, chunk(0, b"a"), end=end())
        assert await self._ids(store, Filter(owner="ann")) == ["a2", "a1"]
        assert await self._ids(store, Filter(owner="")) == []
        assert await self._ids(store, Filter(conversation="c1")) == ["b1", "a1"]
        assert await self._ids(store, Filter(owner="ann", conversation="c1")) == ["a1"]
        assert await self._ids(store, Filter(status=Status.COMPLETED)) == ["a2"]
        assert await self._ids(store, Filter(owner="bob", status=Status.COMPLETED)) == []
        assert await store.list(Filter(status=Status.COMPLETED)) == [await store.head(Key("ann", "a2"))]

    async def test_a_list_may_leave_out_foreground_responses_in_flight(self, store: Log) -> None:
        foreground = [replace(head(Key("ann", name)), background=False) for name in ("ended", "in flight")]
        for new in (*foreground, head(Key("ann", "background"))):
            await store.create(new, b"")
        await store.append(Key("ann", "ended"), 1, None, end=end())
        assert await self._ids(store, Filter()) == ["background", "in flight", "ended"]
        assert await self._ids(store, Filter(visible=True)) == ["background", "ended"]
        assert await self._ids(store, Filter(visible=True, limit=1, after="in flight")) == ["ended"]

    @pytest.mark.parametrize("after", ["unknown", "b1"])
    async def test_an_after_that_the_owner_does_not_know_is_ignored(self, store: Log, after: str) -> None:
        await store.create(head(Key("ann", "a1")), b"")
        await store.create(head(Key("bob", "b1")), b"")
        assert await self._ids(store, Filter(owner="ann", after=after)) == ["a1"]

    async def test_a_page_begins_behind_the_owners_own_response(self, store: Log) -> None:
        for key in (Key("bob", "same"), Key("ann", "a1"), Key("ann", "same"), Key("bob", "b1")):
            await store.create(head(key), b"")
        assert await self._ids(store, Filter(owner="ann", after="same")) == ["a1"]
        assert await self._ids(store, Filter(owner="bob", after="same")) == []

    async def test_a_page_may_begin_behind_a_response_that_the_filter_hides(self, store: Log) -> None:
        for number in range(3):
            await store.create(head(Key("ann", f"r{number}")), b"")
        await store.append(Key("ann", "r1"), 1, None, end=end())
        assert await self._ids(store, Filter(status=Status.IN_PROGRESS, after="r1")) == ["r0"]

    async def test_a_list_goes_on_behind_one_response_where_two_owners_have_its_id(self, store: Log) -> None:
        for key in (Key("bob", "r1"), Key("ann", "r2"), Key("ann", "r1"), Key("ann", "r3")):
            await store.create(head(key), b"")
        assert await self._ids(store, Filter(older_than=Key("ann", "r1"))) == ["r2", "r1"]
        assert await self._ids(store, Filter(older_than=Key("cid", "r1"))) == []

    async def test_a_list_is_bound_by_the_time_of_creation_and_the_beginning_of_the_id(self, store: Log) -> None:
        for place, name in enumerate(("ab1", "ab2", "b_1", "bx1")):
            await store.create(replace(head(Key("ann", name)), created_at=100 + place), b"")
        assert await self._ids(store, Filter(since=101, until=102)) == ["b_1", "ab2"]
        assert await self._ids(store, Filter(prefix="ab")) == ["ab2", "ab1"]
        assert await self._ids(store, Filter(prefix="b_")) == ["b_1"]  # no pattern: an underscore is an underscore
        assert await self._ids(store, Filter(prefix="ab1", owner="bob")) == []

    async def test_a_list_is_searched_for_any_of_some_texts_in_the_request(self, store: Log) -> None:
        for name, body in (
            ("r1", b'{"input":"Weather in K\xc3\xb6ln"}'),
            ("r2", b'{"input":"K\\u00f6ln"}'),
            ("r3", b"{}"),
        ):
            await store.create(head(Key("ann", name)), body)
        assert await self._ids(store, Filter(texts=(b"wEATHER",))) == ["r1"]
        assert await self._ids(store, Filter(texts=("k\u00f6ln".encode(), b"k\\u00f6ln"))) == ["r2", "r1"]
        assert await self._ids(store, Filter(texts=(b"100%",))) == []

    async def _ids(self, store: Log, which: Filter) -> list[str]:
        return [found.key.id for found in await store.list(which)]

    # Expiry

    async def test_what_ended_before_a_moment_is_gone_and_nothing_else(self, store: Log) -> None:
        for name, at_ms in (("r1", 1000), ("r2", 2000), ("r3", 3000)):
            await self._ended(store, name, at_ms)
        await store.create(head(Key("ann", "live")), b"")
        assert await swept(store, before_ms=2001) == ["r1", "r2"]
        for name in ("r1", "r2"):
            await self._is_not_found(store, Key("ann", name))
        assert await self._ids(store, Filter()) == ["live", "r3"]
        assert await follow(store, Key("ann", "r3")) == [(0, b"event")]
        assert await swept(store, before_ms=2001) == []

    async def test_a_response_that_has_not_ended_never_expires(self, store: Log, run: None) -> None:
        await store.append(KEY, 1, chunk(0, b"x" * 10_000))
        assert await swept(store, before_ms=2**53, max_bytes=1) == []
        await store.append(KEY, 1, chunk(1, b"y"), end=end())
        assert len(await follow(store)) == 2

    async def test_too_large_a_storage_loses_what_ended_first(self, store: Log) -> None:
        for name, at_ms in (("r1", 2000), ("r2", 1000), ("r3", 3000), ("r4", 4000)):
            await self._ended(store, name, at_ms, b"x" * 500_000)
        await store.create(head(Key("ann", "live")), b"")
        assert await swept(store, max_bytes=1_200_000) == ["r2", "r1"]
        assert await self._ids(store, Filter()) == ["live", "r4", "r3"]

    async def test_an_expired_id_may_be_used_again(self, store: Log) -> None:
        await self._ended(store, "r1", 1000, b"x" * 3_000_000)
        await store.expire(2000, 0)
        await store.create(head(), b"second")
        await store.append(KEY, 1, chunk(0, b"of the second"))
        assert await swept(store, before_ms=2000) == []
        assert numbered(await store.read(KEY, -1, 100)) == [(0, b"of the second")]

    async def test_an_expired_response_frees_its_key_with_its_first_slice(self, store: Log) -> None:
        for number in range(2):
            await store.create(head(), b"", Claim("k", b"%d" % number))
            await store.append(KEY, 1, chunk(0, b"x" * 3_000_000), end=replace(end(), at_ms=1000))
            await store.expire(2000, 0)
            with pytest.raises(NotFound):
                await store.claimed("ann", "k", head().created_at)
        assert await swept(store, before_ms=2000) == []

    async def test_what_is_read_is_spared_until_it_has_been_read(self, store: Log) -> None:
        for name in ("r1", "r2"):
            await self._ended(store, name, 1000, b"x" * 500_000)
        with store.reading(KEY):
            with store.reading(KEY):
                pass
            assert await swept(store, before_ms=2000, max_bytes=1) == ["r2"]
            assert len(await follow(store)) == 1
        assert await swept(store, before_ms=2000) == ["r1"]

    async def test_what_is_read_for_long_expires_in_the_end_and_its_readers_are_cut(self, backend: Backend) -> None:
        now = 1000.0
        store = Log(backend, clock=lambda: now)
        await self._ended(store, "r1", 1000)
        with store.reading(KEY):
            now += 10 * SPARED_SECONDS  # the time that counts begins when it is due
            assert await swept(store, before_ms=2000) == []
            now += SPARED_SECONDS - 1
            assert await swept(store, before_ms=2000) == []
            now += 1
            assert await swept(store, before_ms=2000) == ["r1"]
            with pytest.raises(NotFound):
                await follow(store)

    async def _ended(self, store: Log, name: str, at_ms: int, *events: bytes) -> None:
        key = Key("ann", name)
        await store.create(head(key), b"")
        await store.append(key, 1, chunk(0, *(events or (b"event",))), end=replace(end(), at_ms=at_ms))

    # Responses of another store

    async def test_a_response_is_restored_as_it_was(self, store: Log) -> None:
        was = replace(head(), status=Status.CANCELLED, last_seq=2, cancel_requested=True, ended_at_ms=end().at_ms)
        chunks = [chunk(0, b"a", b"bb"), replace(chunk(2, b"c"), at_ms=5)]
        await store.restore(was, b"body", chunks, end(Status.CANCELLED))
        assert await store.head(KEY) == was
        page = await store.read(KEY, -1, 1000)
        assert (list(page.chunks), page.ended) == (chunks, True)
        assert (await store.request(KEY), await store.result(KEY)) == (b"body", end().result)

    async def test_a_restored_response_without_an_end_is_an_orphan(self, store: Log) -> None:
        await store.restore(head(), b"body", [chunk(0, b"a")], None)
        assert [found.key for found in await store.adopt()] == [KEY]
        assert (await store.head(KEY)).last_seq == 0

    async def test_nothing_of_a_response_is_restored_that_is_there_or_has_a_hole(self, store: Log, run: None) -> None:
        with pytest.raises(Exists):
            await store.restore(head(), b"other", [chunk(0, b"a")], end())
        with pytest.raises(Gap):
            await store.restore(head(OTHER), b"other", [chunk(0, b"a"), chunk(2, b"b")], end())
        assert (await store.head(KEY)).last_seq == -1
        assert [found.key for found in await store.list(Filter())] == [KEY]

    async def test_a_restored_response_is_one_transaction(self, store: Log, probe: Probe) -> None:
        before = probe.commits
        await store.restore(head(), b"body", [chunk(0, b"a"), chunk(1, b"b")], end())
        assert probe.commits == before + 1

    async def test_a_ping_changes_nothing(self, store: Log, run: None) -> None:
        before = await store.head(KEY)
        await store.ping()
        assert await store.head(KEY) == before


async def swept(store: Log, before_ms: int = 0, max_bytes: int = 0) -> list[str]:
    """The ids of what expired, in the order in which it went."""
    gone: list[str] = []
    while True:
        slice_ = await store.expire(before_ms, max_bytes)
        gone += [key.id for key in slice_.gone]
        if not slice_.more:
            return gone


async def _together(*attempts: Awaitable[None]) -> list[type[StoreError] | None]:
    """The outcomes of writes that are queued in this order before the first is committed."""
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, StoreError) for outcome in outcomes), outcomes
    return [type(outcome) if isinstance(outcome, StoreError) else None for outcome in outcomes]
