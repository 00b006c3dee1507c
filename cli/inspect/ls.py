"""`respool ls`: the responses, newest first."""

import asyncio
import re
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from respool.cli.inspect import figures, terminal
from respool.cli.inspect.choose import owner_of
from respool.cli.inspect.columns import Cell, Column, table
from respool.cli.inspect.entry import Entry, entry, model_of, short_ids
from respool.cli.inspect.source import Source, pages
from respool.cli.inspect.trouble import WRONG_OPTIONS, Trouble, told
from respool.cli.inspect.where import JsonOption, PagerOption, StoreOption, UrlOption, UserOption, Where, opened, where
from respool.proxy.clock import now_ms
from respool.proxy.protocol.jsons import dumps
from respool.store.base import Filter, Head
from respool.store.status import Status

DEFAULT_LIMIT = 20
_BATCH = 200
_WATCH_SECONDS = 1.0

STYLES = {
    Status.QUEUED: "cyan",
    Status.IN_PROGRESS: "bold cyan",
    Status.COMPLETED: "green",
    Status.FAILED: "bold red",
    Status.INCOMPLETE: "yellow",
    Status.CANCELLED: "magenta",
}

Matches = Callable[[Head], bool]

StatusOption = Annotated[
    str | None, typer.Option("--status", "-s", metavar="STATUS", show_default=False, help=f"{', '.join(Status)}.")
]
NewerOption = Annotated[
    str | None, typer.Option("--newer", metavar="AGE", show_default=False, help="Created within: 90s, 30m, 2h, 7d.")
]
OlderOption = Annotated[
    str | None, typer.Option("--older", metavar="AGE", show_default=False, help="Created longer ago than that.")
]


def ls(
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
    status: StatusOption = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", show_default=False, help="A piece of its name.")
    ] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", metavar="ID", show_default=False, help="Of this conversation.")
    ] = None,
    newer: NewerOption = None,
    older: OlderOption = None,
    text: Annotated[
        str | None,
        typer.Option("--text", "-t", metavar="TEXT", show_default=False, help="Asked with this text in the request."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many at most; 0 is all.")] = DEFAULT_LIMIT,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    pager: PagerOption = True,
) -> None:
    """List responses, newest first."""
    with told():
        place = where(store, url, user)
        which = replace(conditions(status, newer, older, text), conversation=conversation)
        if watch and (as_json or not sys.stdout.isatty()):
            raise Trouble(WRONG_OPTIONS, "--watch draws on a terminal: leave --json out, or leave --watch out")
        asyncio.run(_ls(place, which, _model_filter(model), limit or None, watch=watch, as_json=as_json, pager=pager))


def conditions(status: str | None, newer: str | None, older: str | None, text: str | None = None) -> Filter:
    """What the options mean. Raises Trouble."""
    if status and status not in set(Status):
        raise Trouble(WRONG_OPTIONS, f"--status is one of {', '.join(Status)}")
    try:
        return Filter(
            status=Status(status) if status else None,
            since=_ago(newer) if newer else None,
            until=_ago(older) if older else None,
            texts=_as_in_json(text) if text else (),
        )
    except ValueError as error:
        raise Trouble(WRONG_OPTIONS, str(error)) from None


def _ago(text: str) -> int:
    return int((time.time() * 1_000 - figures.milliseconds(text)) // 1_000)


def _as_in_json(text: str) -> tuple[bytes, ...]:
    """How the text can stand in a JSON string: as it is, or with everything beyond ASCII escaped."""
    plain = dumps(text)[1:-1]
    escaped = re.sub(r"[^\x00-\x7f]", lambda match: _escaped(match[0]), plain.decode()).encode()
    return tuple(dict.fromkeys((plain, escaped)))


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _model_filter(model: str | None) -> Matches | None:
    if not model:
        return None
    wanted = model.lower()
    return lambda head: wanted in (model_of(head) or "").lower()


async def _ls(
    place: Where, which: Filter, matches: Matches | None, limit: int | None, *, watch: bool, as_json: bool, pager: bool
) -> None:
    async with opened(place) as source:
        which = replace(which, owner=await owner_of(source, place))
        if watch:
            await _watch(source, which, matches, limit)
        elif as_json:
            async for found in entries(source, which, matches, limit):
                terminal.print_json(found.json())
        else:
            out = terminal.console()
            found_entries = [found async for found in entries(source, which, matches, limit)]
            hint = _hint(len(found_entries), limit) if out.is_terminal else []
            terminal.show(out, [*listing(found_entries, out.width, now_ms()), *hint], pager=pager)


def _hint(shown: int, limit: int | None) -> list[Text]:
    return [Text(f"the newest {shown}; -n 0 shows all", style="dim")] if shown == limit else []


async def entries(
    source: Source, which: Filter, matches: Matches | None, limit: int | None
) -> AsyncGenerator[Entry, None]:
    """The rows of a list, at most `limit`; `matches` is a condition that the store cannot look at itself."""
    now, found = now_ms(), 0
    batch: list[Head] = []
    async with aclosing(pages(source, which, limit if matches is None else None)) as heads:
        async for head in heads:
            if matches is not None and not matches(head):
                continue
            batch.append(head)
            found += 1
            if len(batch) == _BATCH or found == limit:
                for row in await _entries(source, batch, now):
                    yield row
                batch.clear()
            if found == limit:
                return
    for row in await _entries(source, batch, now):
        yield row


async def _entries(source: Source, heads: Sequence[Head], now: int) -> Sequence[Entry]:
    return await asyncio.gather(*(entry(source, head, now) for head in heads))


def listing(rows: Sequence[Entry], width: int, now: int) -> list[Text]:
    """The table of `ls`."""
    if not rows:
        return [Text("no responses", style="dim")]
    wide = width >= 150
    ids = {row.head.key.id: row.head.key.id for row in rows} if wide else short_ids([row.head.key.id for row in rows])
    users = any(row.head.key.owner for row in rows)
    columns = [
        Column("ID", 9, style="bold"),
        Column("AGE", 8, right=True),
        Column("STATUS", 7),
        *([Column("USER", 1)] if users else []),
        Column("MODEL", 3),
        Column("EVENTS", 4, right=True),
        Column("TOOK", 5, right=True),
        Column("TOK/S", 2, right=True),
        Column("INPUT", 6),
    ]
    return list(table(columns, [_cells(row, ids, users, now) for row in rows], width))


def _cells(row: Entry, ids: dict[str, str], users: bool, now: int) -> list[Cell]:
    head = row.head
    speed = row.tokens_per_second
    owner = head.key.owner.partition("=")[2] or head.key.owner
    return [
        Cell(ids[head.key.id]),
        Cell(figures.age(now - row.created_ms)),
        Cell(str(head.status), STYLES[head.status]),
        *([Cell(owner or "-")] if users else []),
        Cell(row.model or "-"),
        Cell(f"{head.last_seq + 1:,}" if head.last_seq >= 0 else "-"),
        Cell(figures.length(row.duration_ms)),
        Cell("-" if speed is None else f"{speed:.1f}"),
        Cell(row.input or "-"),
    ]


async def _watch(source: Source, which: Filter, matches: Matches | None, limit: int | None) -> None:
    out = terminal.console()
    with Live(console=out, screen=True, auto_refresh=False) as live:
        while True:
            room = max(1, out.height - 2)
            shown = min(limit or room, room)
            rows = [found async for found in entries(source, which, matches, shown)]
            live.update(_screen(out, rows), refresh=True)
            await asyncio.sleep(_WATCH_SECONDS)


def _screen(out: Console, rows: Sequence[Entry]) -> Text:
    clock = Text(f"{time.strftime('%H:%M:%S')}  Ctrl-C ends this", style="dim")
    return Text("\n").join([*listing(rows, out.width, now_ms()), clock])
