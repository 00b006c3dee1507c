"""A disk that fills up under a real process, in mid-run and at the terminal transaction, and that gets room again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.disk.bench import Bench, bench
from tests.disk.places import Disk, disk
from tests.proxy.client import Event, Stream, error_of, text_of, whole
from tests.proxy.scene import BACKGROUND
from tests.serving import start_respool

MIB = 2**20
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 4 MiB."""
    with disk(tmp_path / "disk", 4 * MIB) as made:
        yield made


class Live:
    """A background stream under way, told to go on by the test."""

    def __init__(self, b: Bench, stream: Stream) -> None:
        self._bench = b
        self._stream = stream
        self.id = ""
        self.events: list[Event] = []

    async def say(self) -> Event:
        """Let the agent say one delta more; the event that the client sees then."""
        self._bench.paced.turns.put_nowait(True)
        return await self.next()

    def finish(self) -> None:
        """Let the agent come to its end."""
        self._bench.paced.turns.put_nowait(False)

    async def next(self) -> Event:
        event = await self._stream.next()
        assert event is not None
        self.events.append(event)
        return event

    async def rest(self) -> list[Event]:
        self.events += await self._stream.rest()
        return self.events


@asynccontextmanager
async def live(b: Bench) -> AsyncIterator[Live]:
    b.paced.turns = asyncio.Queue()
    body = {"model": "m", "input": "paced", **BACKGROUND}
    async with b.client.stream("POST", "/responses", json=body) as response:
        one = Live(b, Stream(response))
        one.id = (await one.next()).data["response"]["id"]
        for _ in range(3):
            await one.next()
        yield one


def fill(place: Disk) -> Path:
    """A file that takes all the room that is left."""
    filler = place.path / "other"
    with filler.open("ab", buffering=0) as file:
        while free := place.free():
            file.write(bytes(min(free, MIB)))
    return filler


async def say_until_full(one: Live) -> Event:
    """What the client is told once nothing more can be written. The log may still have room in its own file."""
    while (event := await one.say()).name.endswith("text.delta"):
        pass
    return event


@pytest.mark.parametrize("at_the_end", [False, True], ids=["in mid-run", "at the end"])
async def test_a_full_disk_ends_the_run_and_room_brings_everything_back(
    tmp_path: Path, place: Disk, at_the_end: bool
) -> None:
    async with bench(tmp_path, "--grace-seconds", "0", log=place.path / "x.db") as b:
        async with live(b) as earlier:
            await earlier.say()
            earlier.finish()
            told_earlier = await earlier.rest()
        async with live(b) as one:
            await one.say()
            filler = fill(place)
            if at_the_end:
                await fill_the_log(b)
                one.finish()
                end = (await one.rest())[-1]
            else:
                end = await say_until_full(one)
            await one.rest()
        # What was told is the log as it is, and one end with the next number that says what is wrong.
        assert whole(one.events) == end.data["response"]
        assert end.data["response"]["error"]["code"] == "storage_error"
        assert text_of(end.data["response"]) == "".join(f"{n} " for n in range(len(one.events) - 5))
        # Reads go on, writes are refused, and respool says so.
        assert await b.replay(earlier.id) == told_earlier
        assert (await b.client.get("/_respool/health")).status_code == 200
        for refused in (
            await b.client.post("/responses", json={"input": "x" * 100_000}),
            await b.client.delete(f"/responses/{earlier.id}"),
        ):
            assert (refused.status_code, error_of(refused)["code"]) == (503, "storage_error")
        assert (await b.client.get(f"/responses/{one.id}")).json()["status"] in ("in_progress", "failed")
        filler.unlink()
        assert await b.ended(one.id) == end.data["response"]
        assert await b.replay(one.id) == one.events
        await b.works()
        assert (await b.client.get("/_respool/ready")).status_code == 200


async def fill_the_log(b: Bench) -> None:
    """Until no transaction fits any more, not even a small one; what the log's own files had left is used up."""
    size = 400_000
    while size > 100:
        response = await b.client.post(
            "/responses", json={"model": "m", "input": "at once", "metadata": {}, "pad": "x" * size}
        )
        if response.status_code != 200 or response.json()["status"] != "completed":
            size //= 2


async def test_a_process_that_dies_with_an_end_it_could_not_write_leaves_that_number_to_the_next(
    tmp_path: Path, place: Disk
) -> None:
    async with bench(tmp_path, log=place.path / "x.db") as b:
        async with live(b) as one:
            filler = fill(place)
            end = await say_until_full(one)
            await one.rest()
        b.server.kill()
        filler.unlink()
        again = await asyncio.to_thread(start_respool, NOBODY, tmp_path, "--store", f"sqlite:///{b.path}")
        try:
            async with httpx.AsyncClient(base_url=again.url, timeout=None, trust_env=False) as client:
                b.client = client
                events = await b.replay(one.id)
                assert events[:-1] == one.events[:-1]
                assert events[-1].name == end.name
                assert events[-1].data["sequence_number"] == end.data["sequence_number"]
                final = whole(events)
                assert (final["status"], final["error"]["code"]) == ("failed", "owner_lost")
                assert text_of(final) == text_of(end.data["response"])
        finally:
            await asyncio.to_thread(again.stop)


async def test_a_full_disk_does_not_keep_respool_from_ending_in_order(tmp_path: Path, place: Disk) -> None:
    async with bench(tmp_path, "--grace-seconds", "0", log=place.path / "x.db") as b, live(b) as one:
        fill(place)
        await say_until_full(one)
        await one.rest()
        # The bench asks it to end, and takes no other exit code than that of an end in order.
