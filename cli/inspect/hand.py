"""The hand that changes a log: on the file itself where nobody serves it, else through the server that does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from respool.cli.inspect.trouble import BROKEN, NO_SERVER, NO_STORE, NOT_FOUND, Trouble
from respool.cli.inspect.where import Where
from respool.store.base import Ended, Incompatible, InFlight, Key, Locked, NotFound, StorageFailed, Store
from respool.store.open import open_store, served_by

if TYPE_CHECKING:
    from respool.cli.inspect.server import ServerSource


class Hand:
    """Cancels and deletes. `store` is there if it is the file itself that is written."""

    def __init__(self, store: Store | None, server: "ServerSource | None") -> None:
        self.store = store
        self._server = server

    async def cancel(self, key: Key) -> str:
        """Cancel a response; the status that it then has. Raises Trouble."""
        try:
            if self._server is not None:
                return str((await self._server.cancel(key)).get("status"))
            assert self.store is not None
            await self.store.request_cancel(key)
        except Ended:
            raise Trouble(BROKEN, f"{key.id} has ended already") from None
        except NotFound:
            raise _unseen(key) from None
        return "cancelled as soon as a server starts: none is running"

    async def delete(self, key: Key) -> None:
        """Delete a response that has ended. Raises Trouble."""
        try:
            if self._server is not None:
                await self._server.delete(key)
            else:
                assert self.store is not None
                await self.store.delete(key)
        except InFlight:
            words = f"{key.id} has not ended, and no server is running: start one, and it ends"
            raise Trouble(BROKEN, words) from None
        except NotFound:
            raise _unseen(key) from None


def _unseen(key: Key) -> Trouble:
    return Trouble(NOT_FOUND, f"{key.id} is gone, or runs in the foreground: then only its own client can end it")


@asynccontextmanager
async def hand(place: Where) -> AsyncIterator[Hand]:
    """The hand on a log: through --url, through the server that holds the log, or on the file. Raises Trouble."""
    url = place.url or _serving(place.store)
    if url is not None:
        from respool.cli.inspect.server import ServerSource  # it brings an HTTP client, which takes a while to load

        server = ServerSource(url, place.user if place.url else None)
        try:
            yield Hand(None, server)
        finally:
            await server.close()
        return
    async with writing(place.store) as store:
        yield Hand(store, None)


def _serving(address: str) -> str | None:
    try:
        holder = served_by(address)
    except ValueError as error:
        raise Trouble(NO_STORE, str(error)) from None
    if holder is None:
        return None
    if not holder.url:
        raise Trouble(NO_SERVER, f"{address} is being written by another command ({holder}): try again when it is done")
    return holder.url


@asynccontextmanager
async def writing(address: str) -> AsyncIterator[Store]:
    """The store itself, with its lock. Raises Trouble."""
    try:
        store = await open_store(address)
    except Locked as error:
        words = f"{address} is in use: {error}; this needs the log for itself, so stop the server first"
        raise Trouble(NO_STORE, words) from None
    except (Incompatible, StorageFailed, ValueError) as error:
        raise Trouble(NO_STORE, f"cannot open {address}: {error}") from None
    try:
        yield store
    finally:
        await store.close()
