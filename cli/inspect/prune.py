"""`respool prune`, `respool vacuum`: less in the log, and a smaller file."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import typer

from respool.cli.inspect import figures, harmless, terminal
from respool.cli.inspect.choose import owner_of
from respool.cli.inspect.hand import hand, writing
from respool.cli.inspect.ls import StatusOption, conditions
from respool.cli.inspect.source import Source, StoreSource, pages
from respool.cli.inspect.trouble import WRONG_OPTIONS, Trouble, told
from respool.cli.inspect.where import StoreOption, UrlOption, UserOption, Where, archive, opened, where
from respool.proxy.clock import now_ms
from respool.store.archive import Survey
from respool.store.base import Filter, Head, Store

_TOGETHER = 50
_SLICE_BYTES = 256 * 4096
"""What one call of the store gives back, with pages of the usual size."""


def prune(
    older: Annotated[
        str | None, typer.Option("--older", metavar="AGE", show_default=False, help="What ended longer ago: 7d, 12h.")
    ] = None,
    status: StatusOption = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", metavar="SIZE", show_default=False, help="What ended first, until the log is so small: 2G."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and let it stay.")] = False,
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
) -> None:
    """Delete ended responses by age, status, user or size. What has not ended stays."""
    with told():
        place = where(store, url, user)
        if max_size is not None and (older or status or user is not None):
            raise Trouble(
                WRONG_OPTIONS, "--max-size goes by what ended first: say it without --older, --status and --user"
            )
        if max_size is not None:
            asyncio.run(_to_size(place, _size(max_size), dry_run=dry_run))
        elif older or status:
            asyncio.run(_by_age(place, older, conditions(status, None, None), dry_run=dry_run))
        else:
            raise Trouble(WRONG_OPTIONS, "say what is to go: --older AGE, --status STATUS or --max-size SIZE")


def _size(text: str) -> int:
    try:
        return figures.size_in_bytes(text)
    except ValueError as error:
        raise Trouble(WRONG_OPTIONS, str(error)) from None


async def _by_age(place: Where, older: str | None, which: Filter, *, dry_run: bool) -> None:
    before_ms = now_ms() - _milliseconds(older) if older else None
    async with opened(place) as source:
        owner = await owner_of(source, place)
        which = Filter(owner=owner, status=which.status)
        heads = [head async for head in _due(source, which, before_ms)]
    if not dry_run and heads:
        async with hand(place) as hands:
            with terminal.progress("deleting", len(heads)) as done:
                for first in range(0, len(heads), _TOGETHER):
                    group = heads[first : first + _TOGETHER]
                    await asyncio.gather(*(hands.delete(head.key) for head in group))
                    done(len(group))
    _tell(heads, dry_run=dry_run)


def _milliseconds(text: str) -> int:
    try:
        return figures.milliseconds(text)
    except ValueError as error:
        raise Trouble(WRONG_OPTIONS, str(error)) from None


async def _due(source: Source, which: Filter, before_ms: int | None) -> AsyncGenerator[Head, None]:
    """Ended responses; those of which the end is not known are as old as their creation."""
    async with aclosing(pages(source, which, None)) as heads:
        async for head in heads:
            ended_ms = head.ended_at_ms if head.ended_at_ms is not None else head.created_at * 1_000
            if head.status.ended and (before_ms is None or ended_ms < before_ms):
                yield head


async def _to_size(place: Where, max_bytes: int, *, dry_run: bool) -> None:
    async with archive(place, "how much room each response takes") as found:
        survey = await found.survey()
        going = (
            [head async for head in _first_to_end(StoreSource(found), _excess(survey, max_bytes))] if dry_run else []
        )
    if dry_run:
        _tell(going, dry_run=True)
        return
    async with writing(place.store) as store:
        gone = 0
        with terminal.progress("deleting", None) as done:
            while (swept := await store.expire(0, max_bytes)).more:
                gone += len(swept.gone)
                done(len(swept.gone))
            gone += len(swept.gone)
    typer.echo(f"{figures.count_of(gone, 'response')} deleted")


def _excess(survey: Survey, max_bytes: int) -> float:
    """Bytes of events and bodies that must go, so that what they take on the disk comes down to `max_bytes`."""
    used = survey.file_bytes - survey.free_bytes
    data = survey.event_bytes + survey.request_bytes + survey.result_bytes
    return (used - max_bytes) * data / max(1, used)


async def _first_to_end(source: StoreSource, excess: float) -> AsyncGenerator[Head, None]:
    """About what `expire` would take: its own sizes are those of pages on the disk."""
    heads = [head async for head in _due(source, Filter(), None)]
    for head in sorted(heads, key=lambda head: head.ended_at_ms or 0):
        if excess <= 0:
            return
        yield head
        excess -= len(await source.archive.request(head.key)) + len(await source.archive.result(head.key) or b"")
        async for chunk in source.events(head.key):
            excess -= len(chunk.data)


def _tell(heads: list[Head], *, dry_run: bool) -> None:
    if dry_run:
        for head in heads:
            owner = f"  {head.key.owner}" if head.key.owner else ""
            typer.echo(harmless.line(f"{head.key.id}  {head.status}{owner}"))
    verb = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{figures.count_of(len(heads), 'response')} {verb}", err=dry_run)


def vacuum(store: StoreOption = None, url: UrlOption = None) -> None:
    """Give the room that deletes have left in the file back to the disk."""
    with told():
        asyncio.run(_vacuum(where(store, url)))


async def _vacuum(place: Where) -> None:
    async with archive(place, "the room that a file takes") as found:
        before = await found.survey()
    async with writing(place.store) as opened_store:
        await _give_back(opened_store, before.free_bytes)
    async with archive(place, "the room that a file takes") as found:
        after = await found.survey()
    saved = figures.size(max(0, before.file_bytes - after.file_bytes))
    typer.echo(f"{figures.size(before.file_bytes)} before, {figures.size(after.file_bytes)} now: {saved} given back")


async def _give_back(store: Store, free_bytes: int) -> None:
    with terminal.progress("giving back", -(-free_bytes // _SLICE_BYTES)) as done:
        while (await store.expire(0, 0)).more:
            done()
