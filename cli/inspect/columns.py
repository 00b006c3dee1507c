"""A table that fits where it is shown: what matters least is left out, and the last column takes what room there is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from respool.cli.inspect import harmless

_GAP = "  "
_LEAST = 12
"""Cells that the last column must have to be worth showing."""


@dataclass(frozen=True, slots=True)
class Column:
    """`keep` says how long a column stays when there is little room: the highest go last."""

    title: str
    keep: int = 0
    right: bool = False
    style: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text of one line, and a style if it has one of its own."""

    text: str
    style: str = ""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> Iterator[Text]:
    """The heading and the rows, each a line of at most `width` cells."""
    shown = [[Cell(harmless.line(cell.text), cell.style) for cell in row] for row in rows]
    places, widths = _layout(columns, shown, width)
    heads = [Cell(columns[place].title, "dim") for place in places]
    yield _line([columns[place] for place in places], heads, widths)
    for row in shown:
        yield _line([columns[place] for place in places], [row[place] for place in places], widths)


def _layout(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> tuple[list[int], list[int]]:
    needs = [
        max([cell_len(column.title), *(cell_len(row[at].text) for row in rows)]) for at, column in enumerate(columns)
    ]
    last = len(columns) - 1
    places = list(range(len(columns)))
    while len(places) > 1 and _used(needs, places, last) > width:
        places.remove(min(places, key=lambda place: columns[place].keep))
    widths = [needs[place] for place in places]
    rest = width - sum(widths) - len(_GAP) * (len(widths) - 1)
    widths[-1] = max(1, widths[-1] + min(0, rest))
    return places, widths


def _used(needs: Sequence[int], places: Sequence[int], last: int) -> int:
    cells = (min(needs[place], _LEAST) if place == last else needs[place] for place in places)
    return sum(cells) + len(_GAP) * (len(places) - 1)


def _line(columns: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for place, (column, cell, width) in enumerate(zip(columns, cells, widths, strict=True)):
        fitted = _fitted(cell.text, width, right=column.right, pad=place < len(cells) - 1)
        line.append(_GAP if place else "").append(fitted, cell.style or column.style)
    return line


def _fitted(text: str, width: int, *, right: bool, pad: bool) -> str:
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    if right:
        return " " * (width - length) + text
    return text + " " * (width - length) if pad else text
