"""A log that is damaged or taken away while it is served: what is not at fault goes on, and the rest is told."""

import os
import sqlite3
from pathlib import Path

import httpx
import pytest

from respool.store.log import Log
from respool.store.open import open_store
from respool.store.sqlite import SqliteBackend
from tests.proxy.agent import HELLO, answer, saying
from tests.proxy.client import error_of, events_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene

_LEAF = 0x0D
_PAGE = 4096


def damage(path: Path, mark: bytes) -> int:
    """Make every page with rows that hold `mark` one that SQLite cannot read; how many there were."""
    data = bytearray(path.read_bytes())
    damaged = 0
    for start in range(_PAGE, len(data), _PAGE):
        if data[start] == _LEAF and mark in data[start : start + _PAGE]:
            data[start] = 0xFF
            damaged += 1
    path.write_bytes(data)
    return damaged


async def is_refused(s: Scene, path: str, **query: str) -> None:
    response = await s.client.get(path, params=query)
    assert (response.status_code, error_of(response)["code"]) == (503, "storage_error"), response.text
    assert "malformed" not in response.text


async def test_what_is_on_a_damaged_page_is_a_503_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with scene(saying(*answer("damaged")), saying(*HELLO), store=await open_store(f"sqlite:///{path}")) as s:
        lost = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        kept = whole(events_of((await s.create(**BACKGROUND)).content))
    assert damage(path, b'"delta": "damaged"') == 1
    async with scene(saying(*HELLO), store=await open_store(f"sqlite:///{path}")) as s:
        await is_refused(s, f"/responses/{lost}", stream="true")
        assert await s.get(kept["id"]) == kept == whole(await s.events(kept["id"]))
        assert (await s.create()).json()["status"] == "completed"


async def test_a_row_that_makes_no_sense_is_a_503(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    backend = await SqliteBackend.open(str(path))
    async with scene(saying(*HELLO), store=Log(backend, ended_tail_bytes=0)) as s:
        found = [whole(events_of((await s.create(**BACKGROUND)).content))["id"] for _ in range(4)]
        for harm in (
            "UPDATE chunk SET sizes = x'0100' WHERE run = 1",
            "UPDATE chunk SET sizes = x'01000000' WHERE run = 2",
            "UPDATE chunk SET data = x'00' WHERE run = 3",
            "UPDATE response SET status = 'odd' WHERE run = 4",
        ):
            await backend._writer.run(_harm, harm)
        for response_id in found:
            await is_refused(s, f"/responses/{response_id}", stream="true")
        await is_refused(s, f"/responses/{found[3]}")
        assert (await s.create()).json()["status"] == "completed"


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_log_that_is_taken_away_while_it_is_served_takes_no_more_and_is_read_on(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "x.db"
    async with scene(saying(*HELLO), store=await open_store(f"sqlite:///{path}")) as s:
        kept = whole(events_of((await s.create(**BACKGROUND)).content))
        os.rename(f"{path}{suffix}", tmp_path / "away")
        response = await s.create()
        assert (response.status_code, error_of(response)["code"]) == (503, "storage_error")
        assert (await s.client.get("/_respool/ready")).status_code == 503
        assert (await s.client.get("/_respool/health")).status_code == 200
        assert await s.get(kept["id"]) == kept == whole(await s.events(kept["id"]))
        assert len(s.agent.asked) == 1
        os.rename(tmp_path / "away", f"{path}{suffix}")
        assert (await s.create()).json()["status"] == "completed"
        assert (await s.client.get("/_respool/ready")).status_code == 200


async def test_why_nothing_can_be_written_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.db"
    async with scene(saying(*HELLO), store=await open_store(f"sqlite:///{path}")) as s:
        path.unlink()
        assert (await s.create()).status_code == 503
        assert (await s.client.get("/_respool/ready")).status_code == 503
    told = [record for record in caplog.records if record.message == "storage_failed"]
    assert len(told) == 2
    for record in told:
        assert record.exc_info is None
        assert vars(record)["error"] == f"{path} was taken away while it is served: No such file or directory"


async def test_a_stream_that_cannot_be_read_on_is_cut(tmp_path: Path) -> None:
    backend = await SqliteBackend.open(str(tmp_path / "x.db"))
    pieces = ["x" * 100_000] * 9
    async with scene(saying(*answer(*pieces)), store=Log(backend, ended_tail_bytes=0)) as s:
        lost = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        await backend._writer.run(_harm, "UPDATE chunk SET data = x'00' WHERE last = (SELECT max(last) FROM chunk)")
        async with s.replay(lost) as stream:
            assert stream.response.status_code == 200
            with pytest.raises(httpx.TransportError):
                await stream.rest()


def _harm(db: sqlite3.Connection, statement: str) -> None:
    db.execute(statement)
