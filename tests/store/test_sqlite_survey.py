"""A whole file looked through: figures, owners, and what is wrong with it."""
# ruff: noqa: ASYNC240 - the files of these tests are small and local

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from respool.store.archive import Archive, Fault
from respool.store.base import Key
from respool.store.lock import Holder
from respool.store.open import open_reader, open_store, served_by
from respool.store.status import Status
from tests.store.probe import KEY, OTHER, chunk, end, head

BOB = Key("bob", "r1")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Three responses of two owners: one ended with three events, one under way, one without an event."""
    path = tmp_path / "r.db"
    store = await open_store(f"sqlite:///{path}")
    for key in (KEY, OTHER, BOB):
        await store.create(head(key), b"12345")
    await store.append(KEY, 1, chunk(0, b"aa", b"bb"))
    await store.append(KEY, 1, chunk(2, b"c"), end=end())
    await store.append(BOB, 1, chunk(0, b"d"))
    await store.close()
    return path


@pytest.fixture
async def archive(path: Path) -> AsyncIterator[Archive]:
    archive = await open_reader(f"sqlite:///{path}")
    yield archive
    await archive.close()


def changed(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


async def test_a_survey_counts_what_is_remembered(archive: Archive, path: Path) -> None:
    survey = await archive.survey()
    assert survey.by_status == {Status.COMPLETED: 1, Status.IN_PROGRESS: 2}
    assert (survey.events, survey.event_bytes, survey.request_bytes) == (4, 6, 15)
    assert survey.result_bytes == len(end().result)
    assert survey.file_bytes >= path.stat().st_size
    assert survey.library == f"SQLite {sqlite3.sqlite_version}"


async def test_every_owner_is_named_once(archive: Archive) -> None:
    assert await archive.owners() == ["ann", "bob"]


async def test_nothing_is_wrong_with_what_a_store_has_written(archive: Archive) -> None:
    assert await archive.faults() == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM chunk WHERE last = 1", Fault("its events go on at 2 where 0 is expected", KEY)),
        ("DELETE FROM result", Fault("it has ended without a final object", KEY)),
        ("DELETE FROM request WHERE run = 2", Fault("it has no request", OTHER)),
        ("INSERT INTO result VALUES (2, x'7b7d')", Fault("it has a final object and no end", OTHER)),
        ("UPDATE response SET status = 'failed' WHERE run = 3", Fault("its status failed does not fit its end", BOB)),
        ("INSERT INTO request VALUES (9, x'7b7d')", Fault("row 9 of request belongs to no response")),
    ],
)
async def test_what_was_damaged_is_named(path: Path, statement: str, fault: Fault) -> None:
    changed(path, statement)
    archive = await open_reader(f"sqlite:///{path}")
    assert await archive.faults() == [fault]
    await archive.close()


async def test_a_file_that_is_damaged_inside_is_found_by_the_check_of_the_library(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'response_by_owner'").fetchone()
        (page,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * page + 3)
        file.write(b"\x00\x00")  # the index says that it has no entry
    archive = await open_reader(f"sqlite:///{path}")
    faults = await archive.faults()
    assert any("response_by_owner" in fault.words for fault in faults), faults
    await archive.close()


async def test_the_last_event_of_what_has_ended_is_told_in_pages(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}")
    await store.append(BOB, 1, chunk(1, b"ee", b"fff"), end=end())
    await store.append(OTHER, 1, None, end=end())
    await store.close()
    archive = await open_reader(f"sqlite:///{path}")
    first = await archive.last_events(0, 2)
    rest = await archive.last_events(first[-1].place, 2)
    assert [(last.key, last.event) for last in (*first, *rest)] == [(KEY, b"c"), (OTHER, None), (BOB, b"fff")]
    assert await archive.last_events(rest[-1].place, 2) == []
    await archive.close()


async def test_who_serves_a_store_is_told_while_it_does(path: Path) -> None:
    url = f"sqlite:///{path}"
    assert served_by(url) is None
    store = await open_store(url, served_at="http://127.0.0.1:1")
    assert served_by(url) == Holder(os.getpid(), "http://127.0.0.1:1")
    await store.close()
    assert served_by(url) is None
    Path(f"{path}.lock").write_text("1\nhttp://127.0.0.1:1\n")  # what a killed process leaves
    assert served_by(url) is None
    assert served_by("memory:") is None
