"""The arrivals of a response as SVG, legible on a light and on a dark page."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from respool.cli.inspect import figures, harmless
from respool.cli.inspect.arrivals import Arrivals

_WIDTH = 760
_LEFT = 56
_RIGHT = 16
_TOP = 64
_HEIGHT = 150
_LANE = 22
_BINS = 172
_TICKS = 6
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1c1c1c}.s{font-size:11px;fill:#666}.t{font-weight:600}"
    ".b{fill:#1971c2}.l{fill:#2b8a3e}.q{fill:#f08c0033}.g{stroke:#8886}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.s{fill:#aaa}}"
)


def drawing(found: Arrivals) -> str:
    """The whole picture."""
    height = _TOP + _HEIGHT + 40 + _LANE * len(found.timeline.items)
    title = harmless.line(f"{found.head.key.id}: {found.head.status}")
    words = f"{figures.count_of(found.timeline.events, 'event')} in {figures.length(found.total_ms)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        _text(16, 26, title, "t"),
        _text(16, 44, words, "s"),
        *_silences(found),
        *_bars(found),
        *_axis(found),
        *_lanes(found),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _x(found: Arrivals, ms: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ms / max(1, found.total_ms)


def _silences(found: Arrivals) -> Iterator[str]:
    for gap in found.gaps():
        x = _x(found, gap.from_ms)
        yield _rect(x, _TOP, _x(found, gap.until_ms) - x, _HEIGHT, "q")
        yield _text(x + 3, _TOP + 12, figures.length(gap.ms), "s")


def _bars(found: Arrivals) -> Iterator[str]:
    counted = found.bins(_BINS)
    most = max([1, *counted])
    width = (_WIDTH - _LEFT - _RIGHT) / _BINS
    yield _text(8, _TOP + 10, f"{most}", "s")
    for place, count in enumerate(counted):
        if count:
            tall = _HEIGHT * count / most
            yield _rect(_LEFT + place * width, _TOP + _HEIGHT - tall, width * 0.9, tall, "b")


def _axis(found: Arrivals) -> Iterator[str]:
    y = _TOP + _HEIGHT
    yield f'<line class="g" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>'
    for tick in range(_TICKS + 1):
        ms = found.total_ms * tick / _TICKS
        anchor = "end" if tick == _TICKS else "start" if tick == 0 else "middle"
        yield _text(_x(found, ms), y + 16, figures.length(ms), "s", anchor)


def _lanes(found: Arrivals) -> Iterator[str]:
    for place, (span, begun, ended) in enumerate(found.spans()):
        y = _TOP + _HEIGHT + 30 + place * _LANE
        x = _x(found, begun)
        yield _rect(x, y, max(2, _x(found, ended) - x), 6, "l")
        words = harmless.line(f"{span.type} {span.name}".rstrip())
        late = x > _WIDTH / 2
        yield _text(_x(found, ended) if late else x, y + 17, words, "s", "end" if late else "start")


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
