"""A file that is only read: beside its server, after its death, as somebody else, and where nothing can be written."""
# ruff: noqa: ASYNC240 - the files of these tests are small and local

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from respool.store.backend import Reader
from respool.store.base import Filter, Incompatible, Key, NotFound, StorageFailed
from respool.store.log import Log
from respool.store.open import open_reader, open_store
from tests.store.probe import KEY, OTHER, chunk, end, head, killed, numbered

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users can get to."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
        os.chmod(name, 0o755)


@pytest.fixture
def url(folder: Path) -> str:
    return f"sqlite:///{folder}/r.db"


async def written(url: str) -> None:
    """A response of three events, in a store that was closed in order."""
    store = await open_store(url)
    await _write(store)
    await store.close()


async def _write(store: object) -> None:
    assert isinstance(store, Log)
    await store.create(head(), b"request")
    await store.append(KEY, 1, chunk(0, b"a", b"b"))
    await store.append(KEY, 1, chunk(2, b"c"), end=end())


async def assert_it_is_read(url: str) -> None:
    reader = await open_reader(url)
    await assert_all_is_there(reader)
    await reader.close()


async def assert_all_is_there(reader: Reader) -> None:
    page = await reader.read(KEY, -1, 1000)
    assert (numbered(page), page.ended) == ([(0, b"a"), (1, b"b"), (2, b"c")], True)
    assert await reader.request(KEY) == b"request"
    assert await reader.result(KEY) == b'{"id":"r1"}'
    assert await reader.list(Filter()) == [await reader.head(KEY)]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@contextmanager
def somebody_else() -> Iterator[None]:
    """What is done in the block has no more rights than any user of the machine."""
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("only root can become somebody else")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def readable_by_all(folder: Path) -> None:
    """The files may be read by everybody, and the folder be written by its owner alone."""
    for file in folder.iterdir():
        os.chmod(file, 0o644)


# Where it can be read


async def test_a_closed_file_is_read_and_nothing_is_left_beside_it(url: str, folder: Path) -> None:
    await written(url)
    before = names(folder)
    reader = await open_reader(url)
    assert names(folder) == before
    await assert_all_is_there(reader)
    await reader.close()
    assert names(folder) == before


async def test_beside_its_server_a_reader_sees_what_is_committed(url: str) -> None:
    store = await open_store(url)
    reader = await open_reader(url)
    with pytest.raises(NotFound):
        await reader.head(KEY)
    await _write(store)
    await assert_all_is_there(reader)
    await store.close()
    await assert_all_is_there(reader)
    await reader.close()


async def test_a_reader_of_a_closed_file_sees_what_a_server_writes_later(url: str) -> None:
    await (await open_store(url)).close()
    reader = await open_reader(url)
    assert await reader.list(Filter()) == []
    store = await open_store(url)
    await _write(store)
    await assert_all_is_there(reader)
    await store.close()
    await reader.close()


async def test_a_reader_of_a_closed_file_sees_what_a_server_wrote_and_folded_into_it_later(url: str) -> None:
    await (await open_store(url)).close()
    reader = await open_reader(url)
    assert await reader.list(Filter()) == []
    await written(url)
    await assert_all_is_there(reader)
    await reader.close()


async def test_what_a_server_writes_into_a_closed_file_while_it_is_read_is_read_again(url: str) -> None:
    store = await open_store(url)
    for number in range(300):
        await store.create(head(Key("ann", f"old{number}")), b"x" * 5000)
    await store.close()
    reader = await open_reader(url)
    serving = asyncio.create_task(written(url))
    while not serving.done():
        assert len(await reader.list(Filter(limit=1000))) in (300, 301)
    await serving
    assert len(await reader.list(Filter(limit=1000))) == 301
    assert numbered(await reader.read(KEY, -1, 1000)) == [(0, b"a"), (1, b"b"), (2, b"c")]
    await reader.close()


async def test_an_open_reader_holds_up_neither_a_server_nor_its_successor(url: str, folder: Path) -> None:
    store = await open_store(url)
    reader = await open_reader(url)
    await store.create(head(OTHER), b"")
    assert len(await reader.list(Filter())) == 1
    await store.close()
    store = await open_store(url)
    await _write(store)
    assert len(await reader.list(Filter())) == 2
    await reader.close()
    await store.close()
    assert not [name for name in names(folder) if name.endswith(("-wal", "-shm"))]


async def test_what_a_killed_server_had_committed_is_read_and_left_as_it_is(url: str, folder: Path) -> None:
    await killed(url)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}
    assert len(before["r.db-wal"]) > 0
    await assert_it_is_read(url)
    after = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}
    assert after == before


# Where nothing can be written


@pytest.mark.parametrize("make", [written, killed])
async def test_in_a_folder_that_cannot_be_written_it_is_read(
    url: str, folder: Path, make: Callable[[str], Awaitable[None]]
) -> None:
    await make(url)
    readable_by_all(folder)
    with somebody_else():
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        await assert_it_is_read(url)


async def test_a_running_server_is_read_by_who_cannot_write_beside_it(url: str, folder: Path) -> None:
    store = await open_store(url)
    await _write(store)
    readable_by_all(folder)
    with somebody_else():
        await assert_it_is_read(url)
    await store.close()


async def test_an_empty_wal_in_a_folder_that_cannot_be_written_is_none(url: str, folder: Path) -> None:
    await written(url)
    (folder / "r.db-wal").touch()
    readable_by_all(folder)
    with somebody_else():
        await assert_it_is_read(url)


async def test_a_copy_without_its_index_says_what_to_do_where_none_can_be_made(url: str, folder: Path) -> None:
    await killed(url)
    (folder / "r.db-shm").unlink()
    readable_by_all(folder)
    with somebody_else(), pytest.raises(StorageFailed, match="copy it together with its -wal file"):
        await open_reader(url)
    copy = folder / "elsewhere"
    copy.mkdir()
    for name in ("r.db", "r.db-wal"):
        shutil.copy(folder / name, copy)
    await assert_it_is_read(f"sqlite:///{copy}/r.db")


# What is refused


async def test_a_file_of_somebody_else_is_refused_in_words(url: str) -> None:
    await written(url)
    with somebody_else(), pytest.raises(StorageFailed, match=rf"r\.db belongs to user 0 .* by user {NOBODY}"):
        await open_reader(url)


async def test_a_file_whose_wal_may_not_be_read_is_refused_and_not_read_without_it(url: str, folder: Path) -> None:
    await killed(url)
    readable_by_all(folder)
    (folder / "r.db-wal").chmod(0o600)
    with somebody_else(), pytest.raises(StorageFailed, match=r"r\.db-wal belongs to user 0"):
        await open_reader(url)


async def test_a_missing_file_is_named_and_not_made(url: str, folder: Path) -> None:
    with pytest.raises(StorageFailed, match=r"r\.db: No such file"):
        await open_reader(url)
    assert names(folder) == set()


async def test_a_file_that_is_no_log_is_refused(url: str, folder: Path) -> None:
    (folder / "r.db").write_bytes(b"something else" * 500)
    with pytest.raises(Incompatible, match="is not a SQLite database"):
        await open_reader(url)


@pytest.mark.parametrize(("version", "words"), [(0, "older respool"), (99, "newer respool")])
async def test_a_file_of_another_version_is_refused(url: str, folder: Path, version: int, words: str) -> None:
    await written(url)
    with sqlite3.connect(folder / "r.db") as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(Incompatible, match=words):
        await open_reader(url)


async def test_a_store_in_memory_has_no_reader() -> None:
    with pytest.raises(ValueError, match="through its server"):
        await open_reader("memory:")
