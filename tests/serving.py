"""respool as tests run it: in this process on a port of its own, or as the process that an operator starts."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from examples import environments
from respool.proxy.app import App
from respool.proxy.server import Server, bind, limits_of
from respool.proxy.settings import Settings
from respool.store.base import Store
from respool.store.log import Log
from respool.store.memory import MemoryBackend


@dataclass(frozen=True, slots=True)
class Served:
    """respool in this process: where it is, and its parts."""

    url: str
    app: App
    store: Store
    settings: Settings
    server: Server


@asynccontextmanager
async def serving(
    upstream: str,
    *,
    store: Store | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    port: int = 0,
    **options: object,
) -> AsyncIterator[Served]:
    """Serve until the block ends; runs still under way are cancelled then. `options` are Settings.

    A `port` of 0 takes a free one. Without a `store` it is a log in memory; `transport` stands in for the agent's side
    where no real one is wanted.
    """
    settings = Settings.model_validate({"upstream": upstream, "listen": "127.0.0.1:0", **options})
    store = store or Log(MemoryBackend())
    app = App(settings, store, transport)
    server = Server(app, limits_of(settings))
    await app.start()
    listener = bind("127.0.0.1", port)
    port = listener.getsockname()[1]
    await server.listen(listener)
    try:
        yield Served(f"http://127.0.0.1:{port}", app, store, settings, server)
    finally:
        await server.close(0)
        await app.close()


def start_respool(
    upstream: str,
    directory: Path,
    *options: str,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> environments.Server:
    """`respool serve` as a process of its own, with its log in `directory`/respool.db, ready to answer."""
    port = port or environments.free_port()
    command = [
        *(sys.executable, "-m", "respool.cli", "serve", "--upstream", upstream),
        *("--listen", f"127.0.0.1:{port}", "--store", f"sqlite:///{directory / 'respool.db'}", *options),
    ]
    log = directory / "respool.log"
    return environments.start(command, port, ready="/_respool/health", log=log, environment=environment)


async def until(condition: object) -> None:
    """Wait until `condition()` is true; what it looks at changes on this loop or in another process."""
    assert callable(condition)
    while not condition():  # noqa: ASYNC110 - there is nothing to be told by
        await asyncio.sleep(0.002)
