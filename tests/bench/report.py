"""The figures as people and as machines read them: one table with ratios, and JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import Bar, Row
from tests.bench.machine import Machine
from tests.bench.servers import TITLES

_COLUMNS = ("respool", "direct", "nginx", "plain", "azure")
_TOKENS_A_SECOND = 50
_BEGIN, _END = "<!-- figures: python -m tests.bench --write -->\n", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the benchmark."""

    machine: Machine
    date: str
    choices: str
    load_average: tuple[float, float]
    rows: list[Row]
    failures: list[str]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "date": self.date,
            "machine": asdict(self.machine),
            "choices": self.choices,
            "load_average": {"before": self.load_average[0], "after": self.load_average[1]},
            "failures": self.failures,
            "rows": [asdict(row) | {"medians": row.medians} for row in self.rows],
        }

    def text(self) -> str:
        """The table, and below it what it was found on; in Markdown."""
        before, after = self.load_average
        lines = [*table(self.rows), "", *carries(self.rows)]
        lines += [f"- {line}" for line in self.machine.lines()]
        lines += [f"- run: {self.date}, {self.choices}; load average {before:.2f} before, {after:.2f} after"]
        lines += [f"- did not work: {failure}" for failure in self.failures]
        return "\n".join(lines) + "\n"


def carries(rows: Sequence[Row]) -> list[str]:
    """What one processor is full with, in people; from the processor time of a paced event."""
    found = [row.medians["respool"] for row in rows if row.case == "B3" and "respool" in row.medians]
    if not found:
        return []
    cost = f"A paced event takes {number(found[0])} us of processor"
    who = f"{1e6 / found[0] / _TOKENS_A_SECOND:,.0f} people who watch answers of {_TOKENS_A_SECOND} tokens a second"
    return [f"{cost}: one core is full with {who}. Plan with half of them.", ""]


def table(rows: Sequence[Row]) -> list[str]:
    """In brackets: respool's figure in multiples of this one."""
    titles = " | ".join(TITLES[name] for name in _COLUMNS)
    lines = [f"| | figure | unit | {titles} | beside | bars |", "|---|---|---|" + "---:|" * len(_COLUMNS) + "---|---|"]
    lines += [
        f"| {row.case} | {row.figure} | {row.unit} | {_cells(row)} | {_beside(row)} | {_bars(row)} |" for row in rows
    ]
    return lines


def _cells(row: Row) -> str:
    return " | ".join(_cell(row, name) for name in _COLUMNS)


def _cell(row: Row, name: str) -> str:
    found = row.medians
    if name not in found:
        return ""
    mine = found.get("respool")
    ratio = f" ({mine / found[name]:.2f}x)" if name != "respool" and mine is not None and found[name] else ""
    return number(found[name]) + ratio


def _beside(row: Row) -> str:
    others = [name for name in row.medians if name not in _COLUMNS]
    return "; ".join([*(f"{TITLES[name]} {_cell(row, name)}" for name in others), *row.notes])


def _bars(row: Row) -> str:
    return "; ".join(map(_bar, row.bars))


def _bar(bar: Bar) -> str:
    if bar.met is None:
        return bar.words
    return f"{bar.words}: {'met' if bar.met else '**missed**'}"


def number(value: float) -> str:
    """Three digits of it, or all before the point."""
    if math.isnan(value):
        return "none"
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def write_json(report: Report, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report.document(), indent=1) + "\n")


def write_page(report: Report, page: Path, drawn: Sequence[Path] = ()) -> None:
    """Fill the page between its marks, with the plots behind the table. Raises ValueError where it has none."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the marks between which the figures belong")
    plots = "".join(f"![{plot.stem}]({plot.parent.name}/{plot.name})\n" for plot in drawn)
    page.write_text(f"{before}{begin}\n{report.text()}\n{plots}\n{end}{after}", encoding="utf-8")
