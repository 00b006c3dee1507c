"""`respool serve`: settings -> store -> app -> server; signals and exit codes.

0: ended by a signal, in order. 1: a second signal ended it at once, or it broke. 2: the options are wrong.
3: the address cannot be served on. 4: the store cannot be opened.
"""

import asyncio
import gc
import importlib.metadata
import inspect
import os
import signal
import socket
import sqlite3
import sys
from typing import Any, Literal, NoReturn, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from respool.proxy import telemetry
from respool.proxy.app import App
from respool.proxy.server import Server, bind
from respool.proxy.settings import Settings, host_and_port
from respool.store.base import Incompatible, Locked, StorageFailed
from respool.store.open import open_store
from respool.store.sqlite_file import Synchronous

_WRONG_OPTIONS = 2
_NO_ADDRESS = 3
_NO_STORE = 4
# Followers get this long to take the end that the drain has written for them.
_FLUSH_SECONDS = 5.0


def add_serve(app: typer.Typer) -> None:
    """Register the command; its options are the fields of Settings."""

    def serve(**options: Any) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        try:
            settings = Settings(**given)
        except ValidationError as error:
            _leave(_WRONG_OPTIONS, *_complaints(error))
        _run(settings)

    parameters = [_parameter(name, field) for name, field in Settings.model_fields.items()]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command("serve", help="Serve in front of an agent. Every option is also a variable RESPOOL_...")(serve)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    default = field.default
    shown = (
        "" if default in (None, PydanticUndefined) else ", ".join(default) if isinstance(default, tuple) else default
    )
    words = f"{field.description} [env: RESPOOL_{name.upper()}]" + (f" [default: {shown}]" if shown != "" else "")
    option = typer.Option(None, f"--{name.replace('_', '-')}", help=words, show_default=False, metavar=_metavar(field))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=str | None)


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    return "INTEGER" if field.annotation is int else "NUMBER" if field.annotation is float else "TEXT"


def _complaints(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        words = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            words = "is required"
        lines.append(f"--{name.replace('_', '-')} (RESPOOL_{name.upper()}): {words}")
    return lines


def _leave(code: int, *lines: str) -> NoReturn:
    for line in lines:
        print(f"respool: {line}", file=sys.stderr)
    raise typer.Exit(code)


def _run(settings: Settings) -> None:
    telemetry.set_up(settings.log_level)
    listeners = [_listener(settings.listen)]
    if settings.admin_listen is not None:
        listeners.append(_listener(settings.admin_listen))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_serve(settings, listeners))
    if code:
        raise typer.Exit(code)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _listener(address: str) -> socket.socket:
    try:
        return bind(*host_and_port(address))
    except OSError as error:
        _leave(_NO_ADDRESS, f"cannot listen on {address}: {error.strerror or error}")


async def _serve(settings: Settings, listeners: list[socket.socket]) -> int:
    url = f"http://{_address(listeners[0])}"
    try:
        synchronous: Synchronous = "FULL" if settings.synchronous == "full" else "NORMAL"
        store = await open_store(settings.store, synchronous=synchronous, served_at=url)
    except (Locked, Incompatible, StorageFailed, ValueError) as error:
        _leave(_NO_STORE, f"cannot open {settings.store}: {error}")
    app = App(settings, store)
    stop = _stop_on_signals()
    server = Server(app)
    try:
        orphans = await app.start()
        await server.listen(listeners[0])
        for listener in listeners[1:]:
            await server.listen(listener, {"admin": True})
        _greet(settings, url, orphans)
        _spare_the_collector()
        await stop.wait()
        await app.drain()
        await server.close(_FLUSH_SECONDS)
    finally:
        await app.close()
    return 0


def _spare_the_collector() -> None:
    """Let the garbage collector look less often, and never at what the start has loaded.

    Its passes go over every object that lives, so with their default frequency the cost of a stream grows with the
    number of streams. Nearly all garbage here is freed by its reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _stop_on_signals() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once."""
    stop = asyncio.Event()

    def hear() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, hear)
    return stop


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _greet(settings: Settings, url: str, orphans: int) -> None:
    ended = f", {orphans} orphaned responses ended" if orphans else ""
    print(
        f"respool {importlib.metadata.version('respool')} on {url} in front of {settings.upstream}, "
        f"log {settings.store} (SQLite {sqlite3.sqlite_version}, synchronous={settings.synchronous}){ended}",
        file=sys.stderr,
        flush=True,
    )
