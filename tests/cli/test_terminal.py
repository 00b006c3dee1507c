"""The command as a person has it before them: in a terminal, wide and narrow, while a server writes."""

import asyncio
import json
from pathlib import Path

import pytest

from respool.store.base import End
from respool.store.open import open_store
from respool.store.status import Status
from tests.cli.screens import terminal
from tests.cli.written import Told, chunks_of, final, message, url_of, write, write_one


@pytest.mark.parametrize(("width", "height"), [(200, 50), (40, 12)])
def test_every_look_fits_the_terminal(stories: Path, width: int, height: int) -> None:
    for arguments in (("ls",), ("plot", "caresp_aaa1")):
        with terminal(*arguments, width=width, height=height, store=stories) as screen:
            lines = screen.shows("left with 0")
        assert max(map(len, lines)) <= width
        if arguments == ("ls",):
            shown = [line for line in lines if line.startswith("caresp_")]
            assert len(shown) == 5, lines  # no row is broken into two


def test_respool_alone_does_not_scroll() -> None:
    with terminal(width=80, height=24) as screen:
        lines = screen.shows("left with 0")
    assert lines[0].startswith("respool ")


async def test_a_list_that_is_watched_follows_what_a_server_writes(tmp_path: Path) -> None:
    store = await open_store(url_of(tmp_path / "r.db"))
    with terminal("ls", "--watch", width=100, height=24, store=tmp_path / "r.db") as screen:
        await asyncio.to_thread(screen.shows, "no responses")
        live = Told("caresp_1", status=Status.IN_PROGRESS, input="What is new?")
        await write_one(store, live)
        lines = await asyncio.to_thread(screen.shows, "What is new?")
        assert "in_progress" in lines[1]
        ending = Told("caresp_1", input="What is new?")
        last = chunks_of(ending)[-1]
        assert last.first == 8
        await store.append(live.key, 1, last, end=End(Status.COMPLETED, json.dumps(final(ending)).encode(), last.at_ms))
        lines = await asyncio.to_thread(screen.shows, "completed")
        assert lines[0].startswith("ID")
        assert "Ctrl-C ends this" in lines[2]
        screen.type("C-c")
        await asyncio.to_thread(screen.shows, "left with 130")
    await store.close()


async def test_what_is_long_is_shown_in_pages_and_what_is_short_is_not(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [Told("caresp_1", output=[message("\n".join(f"line {n}" for n in range(200)))])])
    with terminal("show", "latest", width=80, height=24, store=tmp_path / "r.db", PAGER="less") as screen:
        lines = screen.shows("caresp_1")
        assert not any("left with" in line for line in lines)
        screen.type("G")
        screen.shows("line 199")
        screen.type("q")
        screen.shows("left with 0")
    for arguments, pager in (
        (("show", "latest"), "no-such-pager"),
        (("show", "latest", "--no-pager"), "less"),
        (("ls",), "less"),
    ):
        with terminal(*arguments, width=80, height=24, store=tmp_path / "r.db", PAGER=pager) as screen:
            screen.shows("left with 0")
