"""`respool events`: the events of one response as they are in the log."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated

import typer
from rich.text import Text

from respool.cli.inspect import figures, harmless, terminal
from respool.cli.inspect.choose import chosen
from respool.cli.inspect.entry import created_ms
from respool.cli.inspect.source import Source
from respool.cli.inspect.trouble import told
from respool.cli.inspect.where import IdArgument, JsonOption, StoreOption, UrlOption, UserOption, Where, opened, where
from respool.proxy.protocol.jsons import dumps, loads
from respool.proxy.protocol.sse import split
from respool.store.base import Key

AfterOption = Annotated[int, typer.Option("--after", "-a", metavar="N", show_default=False, help="Behind this number.")]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", "-t", metavar="TYPE", show_default=False, help="With this in their type: delta, error."),
]

Numbered = tuple[int, int, bytes]
"""The number of an event, when it arrived (unix milliseconds), its frame."""


def events(
    id_: IdArgument,
    after: AfterOption = -1,
    kind: TypeOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many at most; 0 is all.")] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="As on the wire: server-sent events.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
) -> None:
    """Print the events of a response: number, time since the POST, type, data."""
    with told():
        asyncio.run(_events(where(store, url, user), id_, after, kind, limit or None, raw=raw, as_json=as_json))


async def _events(
    place: Where, text: str, after: int, kind: str | None, limit: int | None, *, raw: bool, as_json: bool
) -> None:
    async with opened(place) as source:
        head = await chosen(source, place, text)
        begin = created_ms(head) if source.has_times else None
        write = raw_event if raw else json_event if as_json else line_writer(begin)
        async with aclosing(numbered(source, head.key, after, kind, live=False)) as found:
            async for event in found:
                write(event)
                limit = None if limit is None else limit - 1
                if limit == 0:
                    return


async def numbered(
    source: Source, key: Key, after: int, kind: str | None, *, live: bool
) -> AsyncGenerator[Numbered, None]:
    """The events after a number whose type has `kind` in it."""
    async for chunk in source.events(key, after, live=live):
        for seq, frame in enumerate(chunk.events(), chunk.first):
            if kind is None or kind.encode() in split(frame)[0]:
                yield seq, chunk.at_ms if source.has_times else 0, frame


def raw_event(event: Numbered) -> None:
    """The frame as it is; made harmless where a terminal would read it."""
    if sys.stdout.isatty():
        sys.stdout.write(harmless.block(event[2].decode("utf-8", "replace")))
        sys.stdout.flush()
    else:
        sys.stdout.buffer.write(event[2])
        sys.stdout.buffer.flush()


def json_event(event: Numbered) -> None:
    """`{"sequence_number", "at_ms", "type", "data"}`, the data with its own text; `at_ms` is null over HTTP."""
    seq, at_ms, frame = event
    name, data = split(frame)
    kind = dumps(name.decode("utf-8", "replace"))
    terminal.print_json_text(
        b'{"sequence_number":%d,"at_ms":%b,"type":%b,"data":%b}'
        % (
            seq,
            b"%d" % at_ms if at_ms else b"null",
            kind,
            data if _is_json(data) else dumps(data.decode("utf-8", "replace")),
        )
    )


def _is_json(data: bytes) -> bool:
    """A delta is not parsed on its way into the log: what an agent sent may be none."""
    try:
        loads(data)
    except ValueError:
        return False
    return True


def line_writer(begin_ms: int | None) -> Callable[[Numbered], None]:
    """Prints one line an event, cut off at the edge of a terminal."""
    out = terminal.console()
    cut = out.is_terminal

    def write(event: Numbered) -> None:
        seq, at_ms, frame = event
        name, data = split(frame)
        time = f"+{figures.length(max(0, at_ms - begin_ms))}" if begin_ms is not None and at_ms else ""
        words = harmless.line(name.decode("utf-8", "replace"))
        shown = harmless.line(data.decode("utf-8", "replace"))
        if cut:
            line = Text.assemble((f"{seq:>6} {time:>8}  ", "dim"), (words, _style(words)), "  ", shown)
            out.print(line, no_wrap=True, overflow="ellipsis")
        else:
            sys.stdout.write(f"{seq}\t{time}\t{words}\t{shown}\n")

    return write


def _style(kind: str) -> str:
    if kind.endswith(".delta"):
        return ""
    return "bold red" if kind in ("error", "response.failed") else "cyan"
