"""The store that most of these tests look into."""

import asyncio
from pathlib import Path

import pytest

from respool.store.status import Status
from tests.cli.written import Told, call, message, seconds_ago, thought, write

EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202egnp"
"""Retitles the window, colours, clears the screen in one byte, and turns the text around."""

STORIES = (
    Told("caresp_aaa1", "x-agent-user-id=ann", "Weather in Köln?", created_ms=seconds_ago(7_200)),
    Told(
        "caresp_aaa2",
        "x-agent-user-id=bob",
        EVIL,
        status=Status.FAILED,
        output=[message(EVIL)],
        error={"code": "server_error", "message": EVIL},
        created_ms=seconds_ago(600),
    ),
    Told(
        "caresp_bbb1",
        "x-agent-user-id=ann",
        "Book a table",
        "o4",
        output=[thought("They are hungry."), call("book", '{"seats":2}'), message("Done.\nEnjoy it!")],
        created_ms=seconds_ago(60),
        agent_id="resp_own",
    ),
    Told("caresp_bbb1", "x-agent-user-id=bob", "Book a flight", "o4", created_ms=seconds_ago(50)),
    Told("caresp_ccc1", "", "Still talking", status=Status.IN_PROGRESS, created_ms=seconds_ago(5)),
)


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five responses of three owners; nobody may write into it."""
    path = tmp_path_factory.mktemp("stories") / "r.db"
    asyncio.run(write(path, STORIES))
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A store without a response."""
    path = tmp_path / "empty.db"
    asyncio.run(write(path, []))
    return path
