"""A log of very many responses, looked into and moved while a server writes; prints how long each took.

The size of the soak is set by RESPOOL_SOAK_RESPONSES.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from respool.store.status import Status
from tests.cli.command import Said, started
from tests.cli.screens import terminal
from tests.cli.test_beside_a_server import ANN, Running, started_server
from tests.cli.written import Told, message, seconds_ago, write
from tests.proxy.agent import HELLO, saying

MANY = int(os.environ.get("RESPOOL_SOAK_RESPONSES", "100000"))
_ENDS = (Status.COMPLETED, Status.COMPLETED, Status.FAILED, Status.CANCELLED)


def responses(count: int) -> Iterator[Told]:
    """Of three users and two models, a second apart."""
    for n in range(count):
        yield Told(
            f"caresp_{n:06d}{'x' * 40}",
            f"x-agent-user-id=user{n % 3}",
            f"Question number {n}",
            ("gpt-5", "o4")[n % 2],
            status=_ENDS[n % 4],
            output=[message("one two three four")],
            created_ms=seconds_ago(count + 60 - n),
        )


async def timed(*arguments: str, store: Path) -> Said:
    """Run it as a process, which must succeed, and print how long that took."""
    begun = time.monotonic()
    said = await asyncio.to_thread(lambda: started(*arguments, store=store))
    print(f"{time.monotonic() - begun:7.2f} s  respool {' '.join(arguments)}")
    assert said.code == 0, said
    return said


async def writing(server: Running) -> AsyncIterator[str]:
    """New responses, one after the other, as long as somebody asks."""
    while True:
        id_ = await server.created(ANN)
        await server.ended(id_, ANN)
        yield id_


@pytest.mark.soak
async def test_a_log_of_many_responses_is_looked_into_while_a_server_writes(tmp_path: Path) -> None:
    count = MANY
    print(f"\n{count:,} responses")
    await write(tmp_path / "respool.db", responses(count))
    async with started_server(tmp_path, saying(*HELLO)) as server:
        new = writing(server)
        newest = await anext(new)
        rows = [json.loads(line) for line in (await timed("ls", "--json", store=server.log)).lines]
        assert [row["id"] for row in rows] == [newest, *(told.id for told in list(responses(count))[:-20:-1])]
        for arguments in (
            ("--text", "number 7"),
            ("--user", "user0", "--status", "failed"),
            ("--model", "o4"),
            ("--older", "1m"),
        ):
            await anext(new)
            (line,) = (await timed("ls", "--json", "-n", "1", *arguments, store=server.log)).lines
            assert json.loads(line)["input"].startswith("Question number ")
        await timed("ls", "--text", "nobody asked this", store=server.log)
        said = await timed("show", "caresp_000005", store=server.log)
        assert "Question number 5" in said.out
        await anext(new)
        stats = json.loads((await timed("stats", "--json", store=server.log)).out)
        assert stats["responses"] == count + 6
        assert (await timed("check", store=server.log)).out.count("fault") == 0
        with terminal("ls", "--watch", width=120, height=30, store=server.log) as screen:
            await asyncio.to_thread(screen.shows, "Ctrl-C ends this")
            newest = await anext(new)
            await asyncio.to_thread(screen.shows, newest[:16])
    await timed("export", "--output", str(tmp_path / "all.jsonl"), store=server.log)
    said = await timed("import", str(tmp_path / "all.jsonl"), store=tmp_path / "copy.db")
    assert said.out == f"{count + 7:,} responses imported\n"
    said = await timed("prune", "--older", "0s", "--status", "failed", store=tmp_path / "copy.db")
    assert said.out == f"{count // 4:,} responses deleted\n"
    await timed("vacuum", store=tmp_path / "copy.db")
    assert "fault" not in (await timed("check", store=tmp_path / "copy.db")).out
