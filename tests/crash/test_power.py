"""A power cut at any moment: with `--synchronous full` nothing that a client saw is lost, with `normal` a prefix stays.

The process under test runs above a record of everything that it wrote, synced and sent, in this order. From it the disk
is made as a power cut at any point would have left it: with nothing that was not synced, or with parts of it.
"""

import asyncio
import os
import random
import shutil
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from examples import environments
from respool.store.base import Key
from tests.agents.launcher import Agent
from tests.checker import Json, Logged, Objects, Stream, faults, read_file
from tests.crash.power import Disk, Seen, operations
from tests.recorder import send

SEED = int(os.environ.get("RESPOOL_TEST_SEED") or random.SystemRandom().randrange(2**32))
CUTS = int(os.environ.get("RESPOOL_TEST_CUTS") or 500)
"""Of the soak, for each way to lose."""

Transcripts = dict[str, list[Stream | Objects]]


async def life(agent: Agent, folder: Path, shim: Path, synchronous: str) -> Path:
    """Serve all kinds of requests, let a run be in flight and a checkpoint under way, and die. Where the record is."""
    record = folder / "record"
    (data := folder / "data").mkdir()
    preloaded = {**os.environ, "LD_PRELOAD": str(shim), "RESPOOL_TEST_RECORD": f"{record}:{data}"}
    server = await asyncio.to_thread(start, agent, data / "respool.db", synchronous, preloaded)
    try:
        await _requests(server.url, agent)
        server.process.send_signal(signal.SIGUSR2)
        await asyncio.to_thread(server.process.wait)
    finally:
        server.kill()
    return record


def start(
    agent: Agent, database: Path, synchronous: str, environment: dict[str, str] | None = None
) -> environments.Server:
    """respool on a database, once it has ended the orphans."""
    port = environments.free_port()
    options = ["--upstream", agent.url, "--listen", f"127.0.0.1:{port}", "--synchronous", synchronous]
    command = [sys.executable, "-m", "respool.cli", "serve", *options, "--store", f"sqlite:///{database}"]
    log = database.parent / "respool.log"
    return environments.start(command, port, ready="/_respool/ready", log=log, environment=environment)


async def _requests(url: str, agent: Agent) -> None:
    key, other = "key" + uuid.uuid4().hex, "key" + uuid.uuid4().hex
    agent.release(key, 3)
    agent.release(other, 3)
    main, _ = await _stream(url, f"gate 1000 {key}")
    cancelled, id_ = await _stream(url, f"gate 1000 {other}")
    reader = await send(url, "GET", f"/responses/{id_}?stream=true")
    await reader.until(7)
    await _ask(url, f"/responses/{id_}/cancel", {})
    for text in ("burst 5", "big 300"):
        for background in (False, True):
            agent.release(key, 2)
            await _ask(url, "/responses", {"model": "m", "input": text, "background": background})
            (await _stream(url, text, background=background))[0].cut()
    for number in range(20):
        agent.release(key)
        await main.until(number)
    await asyncio.gather(reader.end(), cancelled.end())
    main.cut()
    agent.release(key, 10)


async def _stream(url: str, text: str, *, background: bool = True) -> tuple[Any, str]:
    body = {"model": "m", "input": text, "background": background, "stream": True}
    recorder = await send(url, "POST", "/responses", body)
    await (recorder.until(7) if text.startswith("gate") else recorder.end())
    id_: str = Stream("", received=bytes(recorder.body)).events()[0]["response"]["id"]
    return recorder, id_


async def _ask(url: str, target: str, body: Json) -> None:
    recorder = await send(url, "POST", target, body)
    await recorder.end()
    assert recorder.http_status == 200, recorder.body


def laid_out(state: dict[str, bytes], folder: Path) -> Path:
    """The files of a disk, and which of them is the database."""
    folder.mkdir()
    (database := folder / "respool.db").touch()  # where the power was cut before its name had been synced
    for name, content in state.items():
        (folder / name).write_bytes(content)
    return database


def missing(log: dict[Key, Logged], seen: Transcripts) -> list[str]:
    """What clients saw and the log does not have."""
    found = [str(fault) for logged in log.values() for fault in faults(logged, seen.get(logged.key.id, ()))]
    known = {key.id for key in log}
    return found + [f"{id_} is not in the log" for id_ in seen if id_ not in known]


def holes(log: dict[Key, Logged], whole: dict[Key, Logged]) -> list[str]:
    """Where a log is not an earlier moment of the whole one."""
    found = [str(fault) for logged in log.values() for fault in faults(logged, ())]
    return found + [f"{key.id} is no prefix" for key, one in log.items() if not _is_earlier(one, whole[key])]


def _is_earlier(one: Logged, later: Logged) -> bool:
    return later.frames[: len(one.frames)] == one.frames


class Cuts:
    """Power cuts at chosen points of a life. `lost` tells how: "unsynced" forgets all of that, "torn" parts of it."""

    def __init__(self, record: Path, folder: Path, how: str, at: set[int], chance: random.Random) -> None:
        self.done = 0
        self.events = 0
        self._record = record
        self._folder = folder
        self._how = how
        self._at = at
        self._chance = chance

    def __iter__(self) -> Any:
        """The database of each cut, and what clients had been sent."""
        disk, seen = Disk(), Seen()
        for number, operation in enumerate(operations(self._record)):
            if number in self._at:
                state = disk.cut() if self._how == "unsynced" else disk.torn(self._chance)
                told = seen.by_id()
                self.done += 1
                self.events += sum(
                    len(one.events()) for all_ in told.values() for one in all_ if isinstance(one, Stream)
                )
                yield laid_out(state, self._folder / str(number)), told
            disk.do(operation)
            seen.do(operation)


def moments(record: Path, how: str, count: int, chance: random.Random) -> set[int]:
    """When to cut: right before syncs, when most is not synced and most has been seen, or at any operation."""
    names = [operation.name for operation in operations(record)]
    chosen = [at for at, name in enumerate(names) if name in "SD" or how == "torn"]
    return set(chance.sample(chosen, min(count, len(chosen))))


def whole_log(record: Path, folder: Path) -> dict[Key, Logged]:
    """The log when the process died; that it is on the real disk too says that the record lacks nothing."""
    disk = Disk()
    for operation in operations(record):
        disk.do(operation)
    real = {file.name: file.read_bytes() for file in (record.parent / "data").glob("respool.db*")}
    now = disk.now()
    assert {name: now[name] == real[name] for name in now} == {"respool.db": True, "respool.db-wal": True}
    return read_file(laid_out(now, folder))


def cut_everywhere(record: Path, tmp_path: Path, how: str, count: int) -> int:
    """Cut `count` times. Each leaves an earlier moment of the log; how many of them lost what a client had seen."""
    chance = random.Random(SEED)
    whole = whole_log(record, tmp_path / f"whole-{how}")
    (folder := tmp_path / how).mkdir()
    cuts = Cuts(record, folder, how, moments(record, how, count, chance), chance)
    lossy = kept = 0
    for database, told in cuts:
        log = read_file(database)
        assert holes(log, whole) == []
        lossy += bool(missing(log, told))
        kept += sum(len(logged.frames) for logged in log.values())
        shutil.rmtree(database.parent)
    print(f"{cuts.done} cuts, {how}: {cuts.events} events sent before them, {kept} kept, {lossy} lost what was seen")
    return lossy


def start_again(agent: Agent, record: Path, tmp_path: Path, synchronous: str) -> None:
    """After a power cut respool starts, and gives every response its end behind what had survived."""
    chance = random.Random(SEED)
    for database, _ in Cuts(record, tmp_path, "torn", moments(record, "unsynced", 1, chance), chance):
        before = read_file(shutil.copytree(database.parent, tmp_path / "looked at") / database.name)
        start(agent, database, synchronous).kill()
        after = read_file(database)
        assert holes(before, after) == []
        assert [logged for logged in after.values() if not logged.status.ended or faults(logged, ())] == []


async def cut_a_life(agent: Agent, tmp_path: Path, shim: Path, synchronous: str, count: int) -> None:
    print(f"RESPOOL_TEST_SEED={SEED}, synchronous={synchronous}")
    record = await life(agent, tmp_path, shim, synchronous)
    unsynced, torn = (cut_everywhere(record, tmp_path, how, count) for how in ("unsynced", "torn"))
    if synchronous == "full":
        assert (unsynced, torn) == (0, 0)
    else:
        # What it does not promise it does not keep: these cuts do hurt, and those above would have shown it.
        assert unsynced
    start_again(agent, record, tmp_path, synchronous)


@pytest.mark.parametrize("synchronous", ["full", "normal"])
async def test_a_power_cut_loses_nothing_seen_when_full_and_leaves_an_earlier_moment_when_normal(
    core_agent: Agent, tmp_path: Path, shim: Path, synchronous: str
) -> None:
    await cut_a_life(core_agent, tmp_path, shim, synchronous, 20)


@pytest.mark.soak
@pytest.mark.parametrize("synchronous", ["full", "normal"])
async def test_hundreds_of_power_cuts(core_agent: Agent, tmp_path: Path, shim: Path, synchronous: str) -> None:
    await cut_a_life(core_agent, tmp_path, shim, synchronous, CUTS)
