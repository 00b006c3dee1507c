"""From the address of a store to the store."""

from respool.store.base import Backend, Store
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.sqlite import SqliteBackend
from respool.store.sqlite_file import Synchronous


async def open_store(url: str, *, synchronous: Synchronous = "NORMAL", served_at: str = "") -> Store:
    """The store at "sqlite:///relative/path", "sqlite:////absolute/path" or "memory:".

    `synchronous` and `served_at` are for SQLite, see SqliteBackend.open. Raises ValueError for any other address, and
    Locked, Incompatible or StorageFailed.
    """
    return Log(await _backend(url, synchronous, served_at))


async def _backend(url: str, synchronous: Synchronous, served_at: str) -> Backend:
    if url == "memory:":
        return MemoryBackend()
    path = url.removeprefix("sqlite:///")
    if path in (url, ""):
        raise ValueError(f"{url!r} is no store: say sqlite:///path, sqlite:////absolute/path or memory:")
    return await SqliteBackend.open(path, synchronous=synchronous, url=served_at)
