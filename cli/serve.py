"""`respool serve`: settings -> store -> app -> server; signals and exit codes.

0: ended by a signal, in order. 1: a second signal ended it at once, or it broke. 2: the options are wrong.
3: the address cannot be served on. 4: the store cannot be opened.
"""

import asyncio
import ctypes
import gc
import importlib.metadata
import os
import resource
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

from respool.cli.options import give_signature, leave, settings_of, settings_parameters
from respool.proxy import telemetry
from respool.proxy.app import App
from respool.proxy.server import Server, bind, limits_of
from respool.proxy.settings import Settings, host_and_port
from respool.proxy.sockets import connections_allowed, raise_file_limit
from respool.store.base import Incompatible, Locked, StorageFailed
from respool.store.open import open_store
from respool.store.sqlite_file import Synchronous

_NO_ADDRESS = 3
_NO_STORE = 4
# Followers get this long to take the end that the drain has written for them.
_FLUSH_SECONDS = 5.0
# With room for so many it is not worth a word at the start.
_MANY_CLIENTS = 1000
_M_MMAP_THRESHOLD = -3  # malloc.h


def add_serve(app: typer.Typer) -> None:
    """Register the command; its options are the fields of Settings."""

    def serve(**options: Any) -> None:
        _run(settings_of(options))

    give_signature(serve, settings_parameters())
    app.command("serve", help="Serve in front of an agent. Every option is also a variable RESPOOL_...")(serve)


def _run(settings: Settings) -> None:
    telemetry.set_up(settings.log_level)
    listeners = bound(settings)

    async def serve() -> None:
        await serve_until(stop_on_signals(), settings, listeners)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


def loop_factory() -> Any:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def bound(settings: Settings) -> list[socket.socket]:
    """The listening sockets: the one for everybody, and the admin's if there is one. Leaves with 3."""
    addresses = [settings.listen] if settings.admin_listen is None else [settings.listen, settings.admin_listen]
    return [_listener(address) for address in addresses]


def _listener(address: str) -> socket.socket:
    try:
        return bind(*host_and_port(address))
    except OSError as error:
        leave(_NO_ADDRESS, f"cannot listen on {address}: {error.strerror or error}")


async def serve_until(stop: asyncio.Event, settings: Settings, listeners: list[socket.socket]) -> None:
    """Serve until `stop` is set, then drain. Leaves with 4 if the store cannot be opened."""
    url = f"http://{_address(listeners[0])}"
    try:
        synchronous: Synchronous = "FULL" if settings.synchronous == "full" else "NORMAL"
        store = await open_store(settings.store, synchronous=synchronous, served_at=url)
    except (Locked, Incompatible, StorageFailed, ValueError) as error:
        leave(_NO_STORE, f"cannot open {settings.store}: {error}")
    raise_file_limit()
    _warn_of_few_files(settings)
    app = App(settings, store)
    server = Server(app, limits_of(settings))
    try:
        # Before the start, which may take seconds after a crash: a probe that is refused would have us killed.
        await server.listen(listeners[0])
        for listener in listeners[1:]:
            await server.listen(listener, {"admin": True})
        orphans = await _started(app, settings)
        _greet(settings, url, orphans)
        _spare_the_collector()
        _return_large_blocks()
        await stop.wait()
        await app.drain()
        await server.close(_FLUSH_SECONDS)
    finally:
        await app.close()


async def _started(app: App, settings: Settings) -> int:
    """How many orphans were ended. Leaves with 4 if the store cannot be read or written."""
    try:
        return await app.start()
    except StorageFailed as error:
        leave(_NO_STORE, f"cannot open {settings.store}: {error}")


def _spare_the_collector() -> None:
    """Let the garbage collector look less often, and never at what the start has loaded.

    Its passes go over every object that lives, so with their default frequency the cost of a stream grows with the
    number of streams. Nearly all garbage here is freed by its reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 100)


def _return_large_blocks() -> None:
    """Let memory of 1 MiB and more go back to the system when it is freed.

    The C library raises that bound by itself with the first large block that is freed, and from then on keeps most of
    what a large event took. Only glibc has such a setting, and only there it is needed.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def stop_on_signals(at_once: Callable[[], None] = lambda: None) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once, behind a call of `at_once`."""
    stop = asyncio.Event()

    def hear() -> None:
        if stop.is_set():
            at_once()
            os._exit(1)
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, hear)
    return stop


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _warn_of_few_files(settings: Settings) -> None:
    most = connections_allowed()
    if most >= max(_MANY_CLIENTS, settings.max_connections):
        return
    (limit, _) = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = f", and not the {settings.max_connections} of --max-connections" if settings.max_connections else ""
    print(
        f"respool: warning: the limit of {limit} open files is enough for {most} clients at a time{wanted}; "
        "raise it with ulimit -n, LimitNOFILE= or --ulimit nofile=",
        file=sys.stderr,
        flush=True,
    )


def _greet(settings: Settings, url: str, orphans: int) -> None:
    ended = f", {orphans} orphaned responses ended" if orphans else ""
    print(
        f"respool {importlib.metadata.version('respool')} on {url} in front of {settings.upstream}, "
        f"log {settings.store} (SQLite {sqlite3.sqlite_version}, synchronous={settings.synchronous}){ended}",
        file=sys.stderr,
        flush=True,
    )
