"""`respool plot`: when the events of a response came, and when none did."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from respool.cli.inspect import figures, harmless, terminal
from respool.cli.inspect.arrivals import Arrivals, arrivals
from respool.cli.inspect.choose import chosen
from respool.cli.inspect.drawing import drawing
from respool.cli.inspect.ls import STYLES
from respool.cli.inspect.trouble import BROKEN, WRONG_OPTIONS, Trouble, told
from respool.cli.inspect.where import IdArgument, JsonOption, StoreOption, UrlOption, UserOption, Where, opened, where

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ROWS = 6
_WIDEST = 160
_TICKS = 4


def plot(
    id_: IdArgument,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", show_default=False, help="Draw it into this file instead.")
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
) -> None:
    """Draw the events of a response over time: where the agent was silent, and where it burst."""
    with told():
        found = asyncio.run(_plot(where(store, url, user), id_))
        if svg is not None:
            _write(svg, drawing(found))
        elif as_json:
            terminal.print_json(found.json())
        else:
            out = terminal.console()
            terminal.show(out, plotted(found, min(out.width, _WIDEST)), pager=False)


async def _plot(place: Where, text: str) -> Arrivals:
    if place.url is not None:
        raise Trouble(
            WRONG_OPTIONS, "when events arrived is not shown over HTTP: look into the log itself with --store"
        )
    async with opened(place) as source:
        return await arrivals(source, await chosen(source, place, text))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Trouble(BROKEN, f"cannot write {file}: {error.strerror}") from None


def plotted(found: Arrivals, width: int) -> Iterator[Text]:
    """The drawing for a terminal of that many columns."""
    head = found.head
    events = figures.count_of(found.timeline.events, "event")
    yield Text.assemble((harmless.line(head.key.id), "bold"), "  ", (str(head.status), STYLES[head.status]))
    yield Text(f"{events} in {figures.length(found.total_ms)}" + _first_token(found), style="dim")
    room = max(10, width - 8)
    yield from _bars(found, room)
    yield Text(" " * 7 + _axis(found.total_ms, room), style="dim")
    for span, begun, ended in found.spans():
        yield _lane(harmless.line(f"{span.type} {span.name}".rstrip()), begun, ended, found.total_ms, room)
    for gap in found.gaps():
        after = f"after event {gap.after_seq}" if gap.after_seq >= 0 else "before the first event"
        yield Text(
            f"silent for {figures.length(gap.ms)} {after}, from +{figures.length(gap.from_ms)} on", style="yellow"
        )


def _first_token(found: Arrivals) -> str:
    first = found.timeline.first_output_ms
    return "" if first is None else f", first token after {figures.length(max(0, first - found.begin_ms))}"


def _bars(found: Arrivals, room: int) -> Iterator[Text]:
    counted = found.bins(room)
    most = max([1, *counted])
    steps = [-(-count * _ROWS * 8 // most) for count in counted]
    for row in range(_ROWS - 1, -1, -1):
        label = f"{most:>6} " if row == _ROWS - 1 else " " * 7
        blocks = "".join(_BLOCKS[max(0, min(8, step - row * 8))] for step in steps)
        yield Text.assemble((label, "dim"), (blocks.rstrip(), "cyan"))


def _axis(total_ms: int, room: int) -> str:
    axis = ["└", *"─" * (room - 1)]
    labels = [" "] * (room + 8)
    for tick in range(_TICKS + 1):
        at = min(room - 1, tick * room // _TICKS)
        axis[at] = "┴" if tick else "└"
        words = figures.length(total_ms * tick / _TICKS)
        begin = max(0, min(at, room - len(words)))
        labels[begin : begin + len(words)] = words
    return "".join(axis) + "\n" + " " * 7 + "".join(labels).rstrip()


def _lane(name: str, begun: int, ended: int, total_ms: int, room: int) -> Text:
    """When an item was open, with its name where there is room for it."""
    first = begun * (room - 1) // max(1, total_ms)
    last = max(first, ended * (room - 1) // max(1, total_ms))
    bar = "━" * (last - first + 1)
    words = f" {name}" if last + 1 + len(name) < room else ""
    lane = " " * first + bar + words
    if not words:
        lane = f"{' ' * max(0, first - len(name) - 1)}{name} {bar}" if first > len(name) else f"{lane}\n{' ' * 7}{name}"
    return Text(" " * 7 + lane, style="green")
