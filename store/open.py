"""From the address of a store to the store."""

import os

from respool.store.archive import Archive
from respool.store.backend import Backend
from respool.store.base import Store
from respool.store.lock import Holder, serving
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.sqlite import SqliteBackend
from respool.store.sqlite_file import Synchronous
from respool.store.sqlite_reader import SqliteReader

DEFAULT_STORE = "sqlite:///respool.db"
"""Where a log is that nobody has said another place for."""


async def open_store(url: str, *, synchronous: Synchronous = "NORMAL", served_at: str = "") -> Store:
    """The store at "sqlite:///relative/path", "sqlite:////absolute/path" or "memory:".

    `synchronous` and `served_at` are for SQLite, see SqliteBackend.open. Raises ValueError for any other address, and
    Locked, Incompatible or StorageFailed.
    """
    return Log(await _backend(url, synchronous, served_at))


async def open_reader(url: str) -> Archive:
    """What is in the store at `url`, for reading alone: beside the process that serves it, or after its death.

    Nothing is written, nobody is kept waiting, and no file is left behind. Raises ValueError for any address but that
    of a file (what is in memory only its own process can read), and Incompatible or StorageFailed.
    """
    if url == "memory:":
        raise ValueError("a store in memory can be read through its server alone")
    return await SqliteReader.open(_path_in(url))


def served_by(url: str) -> Holder | None:
    """The process that serves the store at `url` now, and where; None if none does. Raises ValueError."""
    return None if url == "memory:" else serving(f"{os.path.realpath(_path_in(url))}.lock")


async def _backend(url: str, synchronous: Synchronous, served_at: str) -> Backend:
    if url == "memory:":
        return MemoryBackend()
    return await SqliteBackend.open(_path_in(url), synchronous=synchronous, url=served_at)


def _path_in(url: str) -> str:
    path = url.removeprefix("sqlite:///")
    if path in (url, ""):
        raise ValueError(f"{url!r} is no store: say sqlite:///path, sqlite:////absolute/path or memory:")
    return path
