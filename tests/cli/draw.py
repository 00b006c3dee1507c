"""Draws the screens of the documents: the command line's own drawing of a log with fixed times, as SVG.

`python -m tests.cli.draw FOLDER`.
"""

import asyncio
import html
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from respool.cli.inspect import terminal
from respool.cli.inspect.arrivals import arrivals
from respool.cli.inspect.digest import digest
from respool.cli.inspect.entry import entry
from respool.cli.inspect.ls import listing
from respool.cli.inspect.plot import plotted
from respool.cli.inspect.show import Part, story
from respool.cli.inspect.source import StoreSource
from respool.cli.verbs import screen
from respool.store.base import Filter
from respool.store.open import open_reader
from respool.store.status import Status
from tests.cli.written import BEGIN_MS, Told, call, message, thought, url_of, write

NOW_MS = BEGIN_MS + 700_000
WIDTH = 110
# Fonts from the network are no business of a document.
_WITHOUT_FONTS = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
)
_BLANK = "&#160;"
_INDENTED = re.compile(
    r'x="(?P<x>[\d.]+)"(?P<between>[^>]*?)textLength="(?P<length>[\d.]+)"(?P<after>[^>]*)>'
    r"(?P<all>(?P<blanks>(?:&#160;)+)[^<]+)</text>"
)
ANSWER = (
    "Take the tram to the harbour: it will be 14 degrees and dry until five, and the boats to the island leave every "
    "twenty minutes. Bring a coat for the way back, because the wind turns in the evening."
)
_ANN, _BOB = "x-agent-user-id=ann", "x-agent-user-id=bob"


def responses() -> Iterator[Told]:
    """The log of the screens, oldest first."""
    yield Told("caresp_4be0a93c71d2c85f0e7Q", _BOB, "Summarise the minutes of Monday", "gpt-5", waits_ms=2_300)
    yield Told(
        "caresp_91c3f07a2b6d4e8815Zk",
        _ANN,
        "Translate the contract into French",
        "gpt-5",
        status=Status.FAILED,
        error={"code": "upstream_disconnected", "message": "The agent closed the connection before its end."},
        created_ms=BEGIN_MS + 260_000,
    )
    yield Told(
        "caresp_d7a2c6e91f3b508844Hw",
        _ANN,
        "How do I get to the island today?",
        output=[
            thought("They need the weather and the timetable."),
            call("get_weather", '{"place":"harbour","hours":8}'),
            message(ANSWER),
        ],
        created_ms=BEGIN_MS + 420_000,
        waits_ms=900,
        rhythm_ms=(40, 25, 60, 35, 180, 30, 45),
        pauses_ms={2: 2_600},
        agent_id="resp_68fd21b0aa54",
    )
    yield Told(
        "caresp_0c58be7fa1d94b3362Xt",
        _BOB,
        "Write a long report about all of it",
        "o4",
        status=Status.CANCELLED,
        created_ms=BEGIN_MS + 510_000,
        rhythm_ms=(800,),
    )
    yield Told(
        "caresp_e6f40d8b3c27a19950Mc",
        _ANN,
        "And back again in the evening?",
        status=Status.IN_PROGRESS,
        created_ms=NOW_MS - 4_000,
    )


async def screens() -> Mapping[str, Iterable[Part]]:
    """The parts of each screen by its name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "respool.db"
        await write(path, responses(), batch=1)
        source = StoreSource(await open_reader(url_of(path)))
        heads = await source.list(Filter())
        rows = [await entry(source, head, NOW_MS) for head in heads]
        island = next(head for head in heads if head.agent_id is not None)
        found: dict[str, Iterable[Part]] = {
            "respool": [Text(screen())],
            "ls": listing(rows, WIDTH, NOW_MS),
            "show": list(story(await digest(source, island, NOW_MS), WIDTH, NOW_MS)),
            "plot": list(plotted(await arrivals(source, island), WIDTH)),
        }
        await source.close()
    return found


def pictures() -> dict[str, str]:
    """Each screen as SVG, by the name of its file."""
    with in_utc():
        return {f"{name}.svg": _picture(name, parts) for name, parts in asyncio.run(screens()).items()}


@contextmanager
def in_utc() -> Iterator[None]:
    """The screens show local times, and must not depend on the place."""
    zone = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if zone is not None:
            os.environ["TZ"] = zone
        time.tzset()


def _picture(name: str, parts: Iterable[Part]) -> str:
    out: Console = terminal.recorded(WIDTH)
    for part in parts:
        out.print(part)
    command = {"respool": "respool", "show": "respool show caresp_d7", "plot": "respool plot caresp_d7"}
    title = command.get(name, f"respool {name}")
    picture = out.export_svg(
        title=title, theme=SVG_EXPORT_THEME, code_format=_WITHOUT_FONTS, unique_id=f"respool-{name}"
    )
    return _INDENTED.sub(_moved, picture)


def _moved(match: re.Match[str]) -> str:
    """A text that begins with blanks, moved to the right instead: not every program draws such blanks."""
    blanks, cells = match["blanks"].count(_BLANK), len(html.unescape(match["all"]))
    width = float(match["length"]) / cells
    x = round(float(match["x"]) + blanks * width, 1)
    rest = match["all"].removeprefix(match["blanks"])
    return f'x="{x:g}"{match["between"]}textLength="{(cells - blanks) * width:g}"{match["after"]}>{rest}</text>'


def draw(folder: Path) -> None:
    """Write them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        (folder / name).write_text(picture, encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
