"""`respool replay`: a stored stream once more, at its own pace: for a person, or to debug a client."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

import typer

from respool.cli.inspect import terminal
from respool.cli.inspect.choose import chosen
from respool.cli.inspect.entry import created_ms
from respool.cli.inspect.events import json_event, line_writer, raw_event
from respool.cli.inspect.speech import Speech
from respool.cli.inspect.tail import EventsOption
from respool.cli.inspect.trouble import WRONG_OPTIONS, Trouble, told
from respool.cli.inspect.where import IdArgument, JsonOption, StoreOption, UrlOption, UserOption, Where, opened, where
from respool.proxy.protocol.jsons import JsonObject
from respool.store.base import Chunk, Head

_SPEED = re.compile(r"(\d+(?:\.\d+)?)x?")


@dataclass(frozen=True, slots=True)
class Recording:
    """A stream with the times of its events, and the response that came of it."""

    head: Head
    chunks: Sequence[Chunk]
    response: JsonObject

    async def played(self, speed: float) -> AsyncGenerator[Chunk, None]:
        """The chunks, each when its time has come since the call; `speed` of 0 does not wait."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for chunk in self.chunks:
            due = begun + max(0, chunk.at_ms - created_ms(self.head)) / 1_000 / speed if speed else 0
            await asyncio.sleep(max(0, due - loop.time()))
            yield chunk


def replay(
    id_: IdArgument,
    speed: Annotated[
        str, typer.Option("--speed", metavar="N", help="10x is ten times as fast, max without waits.")
    ] = "1x",
    events: EventsOption = False,
    raw: Annotated[bool, typer.Option("--raw", help="As on the wire: server-sent events.")] = False,
    as_json: JsonOption = False,
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            metavar="HOST:PORT",
            show_default=False,
            help="Be an agent that answers every POST of .../responses with it; port 0 takes a free one.",
        ),
    ] = None,
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
) -> None:
    """Play a stored stream back at its own pace, to the terminal or as an agent."""
    with told():
        pace = _speed(speed)
        recording = asyncio.run(_recorded(where(store, url, user), id_))
        if serve is not None:
            from respool.cli.inspect.agent import serve_recording  # it brings a web server, which takes a while to load

            asyncio.run(serve_recording(recording, pace, serve))
        else:
            asyncio.run(_play(recording, pace, events=events, raw=raw, as_json=as_json))


def _speed(text: str) -> float:
    if text == "max":
        return 0
    match = _SPEED.fullmatch(text)
    if match is None or not float(match[1]):
        raise Trouble(WRONG_OPTIONS, f"--speed {text} is no speed: say 10x, 0.5x or max")
    return float(match[1])


async def _recorded(place: Where, text: str) -> Recording:
    if place.url is not None:
        raise Trouble(
            WRONG_OPTIONS, "when events arrived is not shown over HTTP: replay from the log itself with --store"
        )
    async with opened(place) as source:
        head = await chosen(source, place, text)
        chunks = [chunk async for chunk in source.events(head.key)]
        return Recording(head, chunks, await source.response(head.key))


async def _play(recording: Recording, speed: float, *, events: bool, raw: bool, as_json: bool) -> None:
    speech = Speech(terminal.console())
    write = raw_event if raw else json_event if as_json else line_writer(created_ms(recording.head)) if events else None
    async with aclosing(recording.played(speed)) as chunks:
        async for chunk in chunks:
            for seq, frame in enumerate(chunk.events(), chunk.first):
                if write is not None:
                    write((seq, chunk.at_ms, frame))
                else:
                    speech(frame)
            sys.stdout.flush()


def until_signalled() -> asyncio.Event:
    """Set by SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop
