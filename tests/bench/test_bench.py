"""The benchmark counts right: nothing that is lost, doubled or cut goes unseen, however the bytes were cut."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import pytest

from examples.environments import REPOSITORY
from tests.bench import plots
from tests.bench.figures import Row, at_least, at_most, below
from tests.bench.machine import Machine
from tests.bench.processes import cpu_seconds, family, file_system, memory_bytes
from tests.bench.report import Report, carries, number, table, write_page
from tests.bench.script import Script, chunk, closing, opening, plain_delta, stamped_delta
from tests.bench.servers import ground
from tests.bench.wire import Counted, Live, Tally, Whole, decode

SCRIPT = Script(burst=12, paced=3, rate=50)
FRAMES = [*opening(), *map(plain_delta, range(12)), *(stamped_delta(at, 7) for at in range(12, 15)), *closing(SCRIPT)]
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """A transport that a client writes to."""

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        """Nothing is open."""


def answer(frames: list[bytes], size: int | None = None) -> bytes:
    """The frames as one answer, in chunks of a frame or of so many bytes."""
    body = b"".join(frames)
    pieces = frames if size is None else [body[at : at + size] for at in range(0, len(body), size)]
    return HEAD + b"".join(map(chunk, pieces)) + b"0\r\n\r\n"


def feed(client: asyncio.Protocol, data: bytes, size: int) -> None:
    client.connection_made(cast(asyncio.BaseTransport, Wire()))
    for at in range(0, len(data), size):
        client.data_received(data[at : at + size])
    client.connection_lost(None)


def test_a_script_survives_its_text() -> None:
    script = Script(burst=3, paced=4, rate=0.5, spread=1, hang=1, each=1, wait=1.5)
    assert Script.parse(str(script)) == script


def test_a_whole_answer_misses_nothing() -> None:
    found = decode(answer(FRAMES))
    assert (found.events, found.missing(15), found.response_id) == (len(FRAMES), 0, "resp_" + "a" * 50)


@pytest.mark.parametrize("damage", ["lost", "doubled", "swapped", "endless"])
def test_a_damaged_answer_misses_something(damage: str) -> None:
    frames = list(FRAMES)
    match damage:
        case "lost":
            del frames[8]
        case "doubled":
            frames.insert(8, frames[8])
        case "swapped":
            frames[8], frames[9] = frames[9], frames[8]
        case "endless":
            del frames[-1]
    assert decode(answer(frames)).missing(15) >= 1
    assert live(answer(frames), 65536).missing >= 1


def live(data: bytes, size: int) -> Tally:
    tally = Tally()

    async def follow() -> None:
        feed(Live(b"", tally), data, size)

    asyncio.run(follow())
    return tally


@pytest.mark.parametrize("read", [1, 2, 3, 7, 64, 65536])
@pytest.mark.parametrize("size", [None, 1, 5, 1000])
def test_the_count_does_not_depend_on_where_the_bytes_are_cut(read: int, size: int | None) -> None:
    data = answer(FRAMES, size)
    tally = live(data, read)
    assert (tally.events, tally.missing, list(tally.sent_ns)) == (len(FRAMES), 0, [7, 7, 7])
    assert ended(Counted, data, read) == len(FRAMES)
    assert ended(Whole, data, read) is None


def ended(make: Callable[[bytes], Counted | Whole], data: bytes, size: int) -> int | None:
    async def follow() -> int | None:
        client = make(b"")
        feed(client, data, size)
        return await client.ended

    return asyncio.run(follow())


def test_a_lost_connection_is_seen() -> None:
    assert live(answer(FRAMES)[:-200], 64).missing == 1
    with pytest.raises(ConnectionError):
        ended(Whole, answer(FRAMES)[:-200], 64)


def test_bars_say_what_was_found_and_whether_it_is_enough() -> None:
    assert at_least(0.6, 50, 100, "of nginx").met is False
    assert at_least(0.6, 60, 100, "of nginx").met is True
    assert at_most(2, 5, None, "of nginx").met is None
    assert below(2, 2.5, "ms").met is False


def test_the_table_has_medians_and_ratios() -> None:
    row = Row("B1", "burst", "events/s", {"respool": [1.0, 300.0, 2_000.0], "nginx": [600.0]})
    assert table([row])[-1] == "| B1 | burst | events/s | 300 |  | 600 (0.50x) |  |  |  |  |"


def test_what_one_core_carries_follows_from_an_events_cost() -> None:
    row = Row("B3", "paced", "us/event", {"respool": [100.0]})
    assert "full with 200 people" in carries([row])[0]
    assert carries([]) == []


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0, 0.01234, 1.234, 12.34, 123.4, 1234.5)] == [
        *("0", "0.0123", "1.23", "12.3", "123", "1,234"),
    ]


def test_the_page_is_filled_between_its_marks_and_again(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    shutil.copy(REPOSITORY / "docs" / "performance.md", page)
    machine = Machine(*(field.name for field in fields(Machine)))
    row = Row("B1", "burst", "events/s", {"respool": [2_468.0]})
    for date in ("2026-01-01", "2026-01-02"):
        write_page(Report(machine, date, "3 runs", (0.0, 1.0), [row], []), page)
    text = page.read_text("utf-8")
    assert (text.count("2,468"), text.count("run: 2026-01-01"), text.count("run: 2026-01-02")) == (1, 0, 1)
    assert "## Method" in text


def test_plots_are_well_formed(tmp_path: Path) -> None:
    rows = [
        Row("B4", f"{count} streams in flight", "s", {"respool": [5.0], "nginx": [5.1]}) for count in ("1", "2,000")
    ]
    rows.append(Row("B3", "paced: processor time", "us/event", {"respool": [5.0], "plain": [5.1]}))
    drawn = plots.draw(rows, tmp_path)
    assert sorted(file.name for file in drawn) == ["cost.svg", "in-flight.svg"]
    for file in drawn:
        ElementTree.parse(file)


def test_the_kernel_is_read(tmp_path: Path) -> None:
    assert os.getpid() in family(os.getpid())
    assert cpu_seconds([os.getpid()]) > 0
    assert memory_bytes([os.getpid()], "VmHWM") >= memory_bytes([os.getpid()]) > 0
    assert file_system(Path("/proc")) == "proc"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_the_server_under_test_has_a_processor_to_itself() -> None:
    own = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place, ground(Path(place)) as stands_on:
        under_test, others = stands_on.processors
        os.sched_setaffinity(0, {others})
        try:
            with stands_on.up("plain") as (target,):
                held = [os.sched_getaffinity(pid) for pid in target.pids]
        finally:
            os.sched_setaffinity(0, own)
    assert under_test != others
    assert held == [{under_test}] * len(held)
