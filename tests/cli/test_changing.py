"""`cancel`, `rm`, `prune` and `vacuum` on a log that nobody serves, and `replay`."""

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx
import pytest

from respool.store.status import Status
from tests.cli.command import RESPOOL, done, environment, on_a_terminal, respool
from tests.cli.written import Told, chunks_of, message, seconds_ago, write


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """One a day old, one an hour, both ended; one that a dead process left without an end."""
    await write(
        tmp_path / "r.db",
        [
            Told("caresp_old", created_ms=seconds_ago(86_400), output=[message("x" * 40_000)]),
            Told("caresp_new", created_ms=seconds_ago(3_600), status=Status.FAILED),
            Told("caresp_orphan", created_ms=seconds_ago(60), status=Status.IN_PROGRESS),
        ],
    )
    return tmp_path / "r.db"


def left(log: Path) -> list[str]:
    return [json.loads(line)["id"] for line in done("ls", "--json", store=log).lines]


def test_a_response_that_has_ended_is_deleted(log: Path) -> None:
    assert done("rm", "caresp_old", "caresp_new", store=log).out == "caresp_old deleted\ncaresp_new deleted\n"
    assert left(log) == ["caresp_orphan"]


def test_one_that_has_not_ended_stays(log: Path) -> None:
    said = respool("rm", "latest", store=log)
    assert (said.code, "has not ended, and no server is running" in said.err) == (1, True)
    assert len(left(log)) == 3


def test_a_cancel_without_a_server_counts_when_one_starts(log: Path) -> None:
    said = done("cancel", "latest", store=log)
    assert said.out == "caresp_orphan cancelled as soon as a server starts: none is running\n"
    assert json.loads(done("show", "latest", "--json", store=log).out)["cancel_requested"] is True
    assert (respool("cancel", "caresp_old", store=log).code, len(left(log))) == (1, 3)


def test_prune_takes_what_is_old_or_has_a_status_and_has_ended(log: Path) -> None:
    said = respool("prune", "--older", "12h", "--dry-run", store=log)
    assert (said.code, said.lines, said.err) == (0, ["caresp_old  completed"], "1 response would be deleted\n")
    assert len(left(log)) == 3
    assert done("prune", "--older", "12h", store=log).out == "1 response deleted\n"
    assert done("prune", "--status", "failed", store=log).out == "1 response deleted\n"
    assert done("prune", "--older", "0s", store=log).out == "0 responses deleted\n"
    assert left(log) == ["caresp_orphan"]


def test_prune_to_a_size_takes_what_ended_first_and_makes_the_file_smaller(log: Path) -> None:
    before = log.stat().st_size
    assert respool("prune", "--max-size", "200K", "--dry-run", store=log).lines == ["caresp_old  completed"]
    assert done("prune", "--max-size", "200K", store=log).out == "1 response deleted\n"
    assert left(log) == ["caresp_orphan", "caresp_new"]
    assert log.stat().st_size < min(before, 200 * 1024)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--max-size", "1G", "--older", "1d"), ("--max-size", "much"), ("--older", "long"), ("--user", "")],
)
def test_a_prune_that_does_not_say_what_does_nothing(log: Path, arguments: tuple[str, ...]) -> None:
    said = respool("prune", *arguments, store=log)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert len(left(log)) == 3


def test_a_vacuum_gives_back_what_deletes_have_left(log: Path) -> None:
    before = log.stat().st_size
    done("rm", "caresp_old", store=log)
    said = done("vacuum", store=log)
    assert "given back" in said.out
    assert log.stat().st_size < before
    assert not Path(f"{log}-wal").exists()


def test_a_vacuum_of_nothing_makes_no_file(tmp_path: Path) -> None:
    assert respool("vacuum", store=tmp_path / "no.db").code == 4
    assert list(tmp_path.iterdir()) == []


# replay


STORY = Told("caresp_1", output=[message("Hello there you")], waits_ms=300)


async def test_a_stream_is_played_at_its_own_pace_or_faster(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [STORY])
    begun = time.monotonic()
    assert done("replay", "latest", "--speed", "max", store=tmp_path / "r.db").out == "Hello there you\n[completed]\n"
    at_once = time.monotonic() - begun
    done("replay", "latest", "--speed", "2x", store=tmp_path / "r.db")
    # 800 ms of a stream at twice its pace: never less than 400 ms, however quick the machine.
    assert time.monotonic() - begun - at_once >= 0.4
    frames = b"".join(chunk.data for chunk in chunks_of(STORY)).decode()
    assert done("replay", "latest", "--speed", "max", "--raw", store=tmp_path / "r.db").out == frames
    said = respool("replay", "latest", "--speed", "fast", store=tmp_path / "r.db")
    assert (said.code, said.err) == (2, "respool: --speed fast is no speed: say 10x, 0.5x or max\n")


async def test_a_stream_is_served_as_an_agent_would(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [STORY])
    agent = await asyncio.create_subprocess_exec(
        *(*RESPOOL, "replay", "latest", "--speed", "max", "--serve", "127.0.0.1:0"),
        stderr=asyncio.subprocess.PIPE,
        env=environment(tmp_path / "r.db"),
    )
    assert agent.stderr is not None
    url = (await agent.stderr.readline()).decode().split()[6].rstrip(",")
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/readiness")).status_code == 200
        streamed = await client.post("/v1/responses", json={"input": "hi", "stream": True})
        whole = await client.post("/responses", json={"input": "hi"})
        assert (await client.get("/elsewhere")).status_code == 404
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streamed.content == b"".join(chunk.data for chunk in chunks_of(STORY))
    assert whole.json()["output"][0]["content"][0]["text"] == "Hello there you"
    agent.send_signal(signal.SIGTERM)
    assert await agent.wait() == 0


def test_an_address_that_is_taken_is_told_in_one_line(stories: Path) -> None:
    said = respool("replay", "latest", "--serve", "127.0.0.1", store=stories)
    assert (said.code, said.err) == (2, "respool: --serve '127.0.0.1' is not HOST:PORT\n")
    said = respool("replay", "latest", "--serve", "192.0.2.1:80", store=stories)
    assert (said.code, "cannot listen on 192.0.2.1:80" in said.err) == (1, True)


# Progress


async def test_progress_is_drawn_on_a_terminal_alone(log: Path, tmp_path: Path) -> None:
    assert "exporting" in on_a_terminal("export", "-o", str(tmp_path / "a"), store=log)
    assert respool("export", "-o", str(tmp_path / "b"), store=log).err == "3 responses exported\n"
