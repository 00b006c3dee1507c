"""`respool check`: whether a log is whole."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import typer
from rich.text import Text

from respool.cli.inspect import terminal
from respool.cli.inspect.source import StoreSource, pages
from respool.cli.inspect.trouble import BROKEN, told
from respool.cli.inspect.where import JsonOption, StoreOption, UrlOption, Where, archive, where
from respool.proxy.protocol.jsons import JsonObject
from respool.proxy.protocol.timeline import is_end
from respool.store.archive import Archive, Fault, Survey
from respool.store.base import Filter, Key
from respool.store.open import served_by
from respool.store.status import Status

_SAFE_LIBRARY = (3, 51, 3)
_BATCH = 500
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "fault": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A `fault` must not be; a `warning` may become one; `key` is the response that it is about."""

    level: Literal["ok", "note", "warning", "fault"]
    words: str
    key: Key | None = None

    def json(self) -> JsonObject:
        """The stable shape: see docs/json.md."""
        key = self.key
        return {
            "level": self.level,
            "words": self.words,
            "id": None if key is None else key.id,
            "owner": None if key is None else key.owner,
        }


def check(store: StoreOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Check a log: the file, the numbers of events, ends, orphans, versions. Leaves with 1 if there is a fault."""
    with told():
        findings = asyncio.run(_check(where(store, url)))
        broken = any(finding.level == "fault" for finding in findings)
        if as_json:
            terminal.print_json({"ok": not broken, "findings": [finding.json() for finding in findings]})
        else:
            out = terminal.console()
            terminal.show(out, map(_line, findings), pager=False)
        if broken:
            raise typer.Exit(BROKEN)


def _line(finding: Finding) -> Text:
    who = f"{finding.key.id}{f' of {finding.key.owner}' if finding.key.owner else ''}: " if finding.key else ""
    return Text.assemble((f"{finding.level:<8} ", _STYLES[finding.level]), terminal.text(who + finding.words))


async def _check(place: Where) -> list[Finding]:
    async with archive(place, "whether a log is whole") as found:
        survey = await found.survey()
        return [finding async for finding in _findings(found, survey, place.store)]


async def _findings(found: Archive, survey: Survey, address: str) -> AsyncIterator[Finding]:
    yield Finding("note", f"schema {survey.schema}, {survey.library}")
    if sqlite3.sqlite_version_info < _SAFE_LIBRARY:
        words = (
            f"SQLite {sqlite3.sqlite_version} can lose commits when two connections write or checkpoint, mended "
            f"in {'.'.join(map(str, _SAFE_LIBRARY))}: leave the file to one server, and do not write to it by hand"
        )
        yield Finding("warning", words)
    faults = await found.faults()
    for fault in faults:
        yield _fault(fault)
    if not faults:
        yield Finding("ok", "the file is whole, and the numbers of the events have no hole")
    async for finding in _ends(found, survey):
        yield finding
    async for finding in _orphans(found, survey, address):
        yield finding


def _fault(fault: Fault) -> Finding:
    return Finding("fault", fault.words, fault.key)


async def _ends(found: Archive, survey: Survey) -> AsyncIterator[Finding]:
    """Ended responses whose last event is not an end."""
    ended = sum(count for status, count in survey.by_status.items() if status.ended)
    place, is_whole = 0, True
    with terminal.progress("looking at ends", ended) as done:
        while lasts := await found.last_events(place, _BATCH):
            place = lasts[-1].place
            for last in lasts:
                if last.event is None or not is_end(last.event):
                    is_whole = False
                    yield Finding("fault", "it has ended, and its last event is not an end", last.key)
            done(len(lasts))
    if is_whole:
        yield Finding("ok", f"every one of {ended:,} ended responses has its end as its last event")


async def _orphans(found: Archive, survey: Survey, address: str) -> AsyncIterator[Finding]:
    live = sum(count for status, count in survey.by_status.items() if not status.ended)
    server = served_by(address)
    if server is not None:
        yield Finding("note", f"{live:,} under way, and {server} is serving")
    elif not live:
        yield Finding("ok", "nothing is left without an end")
    else:
        source = StoreSource(found)
        for status in (Status.IN_PROGRESS, Status.QUEUED):
            async for head in pages(source, Filter(status=status), None):
                yield Finding(
                    "fault", "an orphan: it has no end, and no server is running; the next one ends it", head.key
                )
