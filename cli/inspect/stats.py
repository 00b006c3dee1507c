"""`respool stats`: a whole log in figures."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.text import Text

from respool.cli.inspect import figures, terminal
from respool.cli.inspect.columns import Cell, Column, table
from respool.cli.inspect.digest import timeline_of
from respool.cli.inspect.entry import created_ms, output_tokens
from respool.cli.inspect.ls import STYLES
from respool.cli.inspect.source import StoreSource, pages
from respool.cli.inspect.trouble import told
from respool.cli.inspect.where import JsonOption, StoreOption, UrlOption, Where, archive, where
from respool.proxy.protocol.jsons import JsonObject
from respool.store.archive import Archive, Survey
from respool.store.base import Filter, Head, NotFound
from respool.store.status import Status

PERCENTILES = (50, 90, 99, 100)
_SAMPLE = 1_000


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of a whole store, and measures of its newest ended responses: milliseconds, tokens a second."""

    survey: Survey
    owners: int
    measured: int
    first_output_ms: Sequence[float]
    duration_ms: Sequence[float]
    tokens_per_second: Sequence[float]

    def json(self) -> JsonObject:
        """The stable shape: see docs/json.md."""
        survey = self.survey
        return {
            "responses": sum(survey.by_status.values()),
            "by_status": {str(status): survey.by_status.get(status, 0) for status in Status},
            "owners": self.owners,
            "events": survey.events,
            "bytes": {
                "events": survey.event_bytes,
                "requests": survey.request_bytes,
                "results": survey.result_bytes,
                "on_disk": survey.file_bytes,
                "free": survey.free_bytes,
            },
            "measured": self.measured,
            "first_output_ms": _percentiles(self.first_output_ms),
            "duration_ms": _percentiles(self.duration_ms),
            "tokens_per_second": _percentiles(self.tokens_per_second),
            "schema": survey.schema,
            "library": survey.library,
        }


def stats(
    store: StoreOption = None,
    url: UrlOption = None,
    measure: Annotated[
        int, typer.Option("--measure", "-n", min=0, help="Of how many of the newest the times are taken; 0 is all.")
    ] = _SAMPLE,
    as_json: JsonOption = False,
) -> None:
    """Count a whole log: responses, sizes, and how long first tokens and responses took."""
    with told():
        found = asyncio.run(_stats(where(store, url), measure or None))
        if as_json:
            terminal.print_json(found.json())
        else:
            out = terminal.console()
            terminal.show(out, lines(found, out.width), pager=False)


async def _stats(place: Where, measure: int | None) -> Stats:
    async with archive(place, "a log as a whole") as found:
        survey = await found.survey()
        owners = await found.owners()
        return await _measured(found, survey, len(owners), measure)


async def _measured(found: Archive, survey: Survey, owners: int, measure: int | None) -> Stats:
    source = StoreSource(found)
    ended = sum(count for status, count in survey.by_status.items() if status.ended)
    total = ended if measure is None else min(measure, ended)
    firsts: list[float] = []
    durations: list[float] = []
    speeds: list[float] = []
    measured = 0
    with terminal.progress("measuring", total) as done:
        async with aclosing(pages(source, Filter(), None)) as heads:
            async for head in heads:
                if measured == total:
                    break
                if head.status.ended and head.ended_at_ms is not None:
                    measured += 1
                    await _measure(source, head, firsts, durations, speeds)
                    done()
    return Stats(survey, owners, measured, sorted(firsts), sorted(durations), sorted(speeds))


async def _measure(
    source: StoreSource, head: Head, firsts: list[float], durations: list[float], speeds: list[float]
) -> None:
    """Failures and cancels end early: only what completed tells how long responses take."""
    try:
        first_ms = (await timeline_of(source, head.key)).first_output_ms
        if first_ms is not None:
            firsts.append(max(0, first_ms - created_ms(head)))
        if head.status is Status.COMPLETED and head.ended_at_ms is not None:
            took = max(0, head.ended_at_ms - created_ms(head))
            durations.append(took)
            speed = figures.rate(output_tokens(await source.response(head.key)), took)
            if speed is not None:
                speeds.append(speed)
    except NotFound:
        return


def _percentiles(ordered: Sequence[float]) -> JsonObject | None:
    return {f"p{share}": round(percentile(ordered, share), 2) for share in PERCENTILES} if ordered else None


def percentile(ordered: Sequence[float], share: int) -> float:
    """The smallest value that `share` percent of the values do not exceed."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def lines(found: Stats, width: int) -> list[Text]:
    """The figures, for reading."""
    survey = found.survey
    total = sum(survey.by_status.values())
    told = Text(f"{figures.count_of(total, 'response')} of {figures.count_of(found.owners, 'user')}", style="bold")
    for status in Status:
        if count := survey.by_status.get(status):
            told.append(f"\n  {count:>12,}  ").append(str(status), STYLES[status])
    each = f", {survey.events / total:,.1f} a response" if total else ""
    data = survey.event_bytes + survey.request_bytes + survey.result_bytes
    told.append(f"\n{figures.count_of(survey.events, 'event')}{each}\n", "bold")
    told.append(f"{figures.size(survey.file_bytes)} on the disk", "bold")
    told.append(
        f": events {figures.size(survey.event_bytes)}, requests {figures.size(survey.request_bytes)}, "
        f"final objects {figures.size(survey.result_bytes)}, free {figures.size(survey.free_bytes)}, "
        f"the rest {figures.size(max(0, survey.file_bytes - survey.free_bytes - data))}\n"
    )
    told.append(f"schema {survey.schema}, {survey.library}\n", "dim")
    return [told, *_times(found, width)]


def _times(found: Stats, width: int) -> list[Text]:
    if not found.measured:
        return []
    heads = [Column(f"THE NEWEST {found.measured:,} THAT ENDED", 9), *(Column(_title(p), 5, True) for p in PERCENTILES)]
    rows = [
        [Cell(title), *(Cell(form(percentile(values, share))) for share in PERCENTILES)]
        for title, values, form in (
            ("first token", found.first_output_ms, figures.length),
            ("whole, completed", found.duration_ms, figures.length),
            ("output tokens/s", found.tokens_per_second, lambda value: f"{value:.1f}"),
        )
        if values
    ]
    return list(table(heads, rows, width))


def _title(share: int) -> str:
    return "MOST" if share == 100 else f"P{share}"
