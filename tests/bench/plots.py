"""The figures as drawings: bars and lines in SVG, legible on a light and on a dark page."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from tests.bench.figures import Row
from tests.bench.report import number
from tests.bench.servers import TITLES

_WIDTH = 720
_COLOURS = {
    "respool": "#d9480f",
    "respool full": "#f08c00",
    "direct": "#868e96",
    "nginx": "#2b8a3e",
    "plain": "#1971c2",
    "azure": "#6741d9",
    "azure resilient": "#9775fa",
    "bare": "#868e96",
}
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1c1c1c}.s{font-size:11px;fill:#666}.t{font-size:15px;font-weight:600}"
    ".g{stroke:#8884;stroke-width:1}@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.s{fill:#aaa}}"
)


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw what these rows allow; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, title, case, words in _BARS:
        chosen = [row for row in rows if row.case == case and words in row.figure and row.medians]
        if chosen:
            drawn.append(_write(folder / name, bars(title, chosen)))
    growth = [row for row in rows if row.case == "B4" and row.unit == "s"]
    if len(growth) > 1:
        drawn.append(_write(folder / "in-flight.svg", lines("Streams in flight: seconds until all have ended", growth)))
    return drawn


_BARS = (
    ("burst.svg", "Burst, an agent's write for each event: events a second", "B1", "a write for each event"),
    ("latency.svg", "Paced streams: from the agent to the client, ms", "B2", "paced"),
    ("cost.svg", "Paced streams: processor time an event, us", "B3", "paced"),
    ("replay.svg", "Replay of a finished response: events a second", "B6", "replay"),
)


def _write(file: Path, drawing: str) -> Path:
    file.write_text(drawing, encoding="utf-8")
    return file


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
    inside = [f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", _text(16, 26, title, "t"), *parts]
    return "\n".join([head, *inside, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def bars(title: str, rows: Sequence[Row]) -> str:
    """One group of bars for each row, all on one scale."""
    rows = [row for row in rows if "processor time" not in row.figure or row.case == "B3"]
    most = max(value for row in rows for value in row.medians.values()) or 1.0
    parts, y, left, room = [], 44, 150, _WIDTH - 150 - 90
    for row in rows:
        parts.append(_text(16, y + 12, row.figure, "s"))
        y += 20
        for name in (known for known in _COLOURS if known in row.medians):
            value = row.medians[name]
            width = max(1.0, value / most * room)
            parts.append(_text(left - 8, y + 13, TITLES[name], anchor="end"))
            parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="17" rx="2" fill="{_COLOURS[name]}"/>')
            parts.append(_text(left + width + 6, y + 13, number(value)))
            y += 22
        y += 10
    return _svg(y + 4, title, parts)


def lines(title: str, rows: Sequence[Row]) -> str:
    """A line for each server over the number with which the rows' names begin, which has a logarithmic scale."""
    at = [int(row.figure.split()[0].replace(",", "")) for row in rows]
    most = max(value for row in rows for value in row.medians.values()) * 1.05
    left, right, top, bottom = 56, _WIDTH - 150, 50, 330
    span = math.log(max(at) / min(at)) or 1.0

    def place(count: int, value: float) -> tuple[float, float]:
        x = left + math.log(count / min(at)) / span * (right - left)
        return x, bottom - value / most * (bottom - top)

    parts = []
    for count in at:
        x, _ = place(count, 0)
        parts.append(f'<line class="g" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 18, f"{count:,}", "s", "middle"))
    for share in (0.25, 0.5, 0.75, 1.0):
        _, y = place(at[0], most * share)
        parts.append(f'<line class="g" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, number(most * share), "s", "end"))
    ends: list[float] = []
    for name in (known for known in _COLOURS if any(known in row.medians for row in rows)):
        points = [place(count, row.medians[name]) for count, row in zip(at, rows, strict=True) if name in row.medians]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2.5"/>')
        y = points[-1][1]
        while any(abs(y - other) < 15 for other in ends):
            y += 3
        ends.append(y)
        parts.append(_text(points[-1][0] + 8, y + 4, TITLES[name]))
    return _svg(bottom + 36, title, parts)
