"""One log and the processes that die on it, one after the other: each start answers for the death before it."""

import asyncio
import json
import math
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import openai

from examples import environments
from respool.store.base import Key
from respool.store.crashpoint import Point
from respool.store.status import Status
from tests.agents.launcher import Agent
from tests.checker import Fault, Json, Logged, Objects, Parsed, Stream, faults, read_file
from tests.crash.traffic import Subject, Traffic, last_seen, read_with
from tests.recorder import send

PROMISED_SECONDS = 5.0
"""How long after a restart a response may be without an end; some 1 s is usual.

The time in which the machine let others run is not counted, nor a start that dies before it has ended all.
"""

_REACHED_SECONDS = 60.0


class Death(NamedTuple):
    """How a process dies: at the k-th `passing` of a point, at so many writes of a checkpoint, or after some time."""

    at: Point | Literal["checkpoint", "any time"]
    passing: int = 1

    @property
    def name(self) -> str:
        return self.at.name if isinstance(self.at, Point) else self.at


@dataclass(slots=True)
class Figures:
    """What was counted over all deaths.

    `slowest_end` is the longest time from a start to the end of an orphan, in seconds; `slowest_net` is the longest
    without the time for which the process lacked a processor.
    """

    deaths: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    responses: int = 0
    orphans: int = 0
    transcripts: int = 0
    events: int = 0
    slowest_end: float = 0.0
    slowest_net: float = 0.0

    def __iadd__(self, other: "Figures") -> "Figures":
        self.deaths += other.deaths
        self.faults += other.faults
        self.responses += other.responses
        self.orphans += other.orphans
        self.transcripts += other.transcripts
        self.events += other.events
        self.slowest_end = max(self.slowest_end, other.slowest_end)
        self.slowest_net = max(self.slowest_net, other.slowest_net)
        return self

    def __str__(self) -> str:
        kinds = Counter(fault.kind for fault in self.faults)
        return (
            f"{self.deaths.total()} kills ({', '.join(f'{name} {n}' for name, n in sorted(self.deaths.items()))}); "
            f"{self.responses} responses, {self.orphans} of them orphans; {self.events} events seen by "
            f"{self.transcripts} clients: lost {kinds['lost']}, repeated {kinds['repeated']}, faults {kinds.total()}; "
            f"slowest end after a restart {self.slowest_end:.2f} s, {self.slowest_net:.2f} s of it not for want of a "
            "processor"
        )


class Lane:
    """A log in `directory`, and the processes that serve it. `shim` is the library that knows about writes."""

    def __init__(self, agent: Agent, directory: Path, shim: Path, chance: random.Random) -> None:
        self.figures = Figures()
        self._agent = agent
        self._directory = directory
        self._shim = shim
        self._told = directory / "told"
        self._chance = chance
        self._port = environments.free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._library = openai.AsyncOpenAI(base_url=self._url, api_key="x", max_retries=0)
        self._subjects: list[Subject] = []
        self._answered: list[Subject] = []
        self._settled: dict[Key, int] = {}
        self._orphans: dict[Key, Logged] = {}
        self._asked: set[str] = set()
        self._texts: set[str] = set()
        self._started = 0.0
        self._waited_seconds = 0.0

    async def live(self, deaths: Sequence[Death]) -> Figures:
        """Die all deaths in this order, then live once more, and look at what is left."""
        try:
            for death in deaths:
                await self._die(death)
            server = await asyncio.to_thread(self._start, Death("any time"))
            assert server is not None
            try:
                self._waited_seconds = self._lack_of_processor(server)
                await self._answer_for_the_last()
            finally:
                server.kill()
            await asyncio.to_thread(self._look)
        finally:
            await self._library.close()
        assert not self._orphans, f"left without an end: {list(self._orphans)}"
        self._check_calls()
        return self.figures

    async def _die(self, death: Death) -> None:
        server = await asyncio.to_thread(self._start, death)
        self._waited_seconds = math.inf
        if server is not None:
            try:
                self._waited_seconds = self._lack_of_processor(server)
                await self._answer_for_the_last()
                await self._let_it_die(server, death)
            finally:
                server.kill()
        await asyncio.to_thread(self._look)
        assert self._orphans, f"{death} hit no run in flight"
        self.figures.deaths[death.name] += 1

    def _start(self, death: Death) -> environments.Server | None:
        """A server that will die this death once it is told; None if it did so while it started."""
        environment = dict(os.environ)
        self._told.unlink(missing_ok=True)
        if death.at == "checkpoint":
            environment |= {"LD_PRELOAD": str(self._shim), "RESPOOL_TEST_DIE": f"{death.passing}:{self._told}"}
        self._started = time.time()
        log = self._directory / "respool.log"
        command = self._command(death)
        try:
            return environments.start(command, self._port, ready="/_respool/ready", log=log, environment=environment)
        except environments.NotStarted as dead:
            if death.at is not Point.ADOPT or f"code {-signal.SIGKILL}" not in str(dead):
                raise
            return None

    def _command(self, death: Death) -> list[str]:
        entry = ["respool.cli"]
        if death.at is Point.ADOPT:
            entry = ["tests.crash.armed", death.name, str(min(death.passing, len(self._orphans))), "now"]
        elif isinstance(death.at, Point):
            entry = ["tests.crash.armed", death.name, str(death.passing), str(self._told)]
        listen, store = f"127.0.0.1:{self._port}", f"sqlite:///{self._directory / 'respool.db'}"
        options = ["--upstream", self._agent.url, "--listen", listen, "--store", store]
        return [sys.executable, "-m", *entry, "serve", *options]

    def _lack_of_processor(self, server: environments.Server) -> float:
        """How long the process could have run and was not let, because others had the processors; seconds."""
        return int(Path(f"/proc/{server.process.pid}/schedstat").read_text().split()[1]) / 1e9

    async def _let_it_die(self, server: environments.Server, death: Death) -> None:
        traffic = Traffic(self._url, self._agent, self._library, self._chance, heavy=death.at == "checkpoint")
        self._subjects = traffic.subjects

        async def kill() -> None:
            if death.at == "any time":
                await asyncio.sleep(self._chance.uniform(0, 0.6))
                server.process.kill()
            self._told.touch()
            code = await asyncio.to_thread(server.process.wait, _REACHED_SECONDS)
            assert code == -signal.SIGKILL, environments.tail(server.log)

        await traffic.until(kill)
        self._texts |= {subject.text for subject in traffic.subjects}
        assert set(traffic.answers) <= {200}, Counter(traffic.answers)

    async def _answer_for_the_last(self) -> None:
        """Every client goes on where it was when the server died, and reads to the end."""
        await asyncio.gather(*(self._go_on(subject) for subject in self._subjects if subject.is_resumable))
        self._answered, self._subjects = self._subjects, []

    async def _go_on(self, subject: Subject) -> None:
        polls = Objects("a poller behind the restart", [await self._poll(subject)])
        torn = [one for one in subject.transcripts if not isinstance(one, Objects) and not one.whole]
        cursors = {last_seen(one) for one in torn}
        rests = [Stream("behind the restart", cursor) for cursor in cursors]
        for rest in rests:
            recorder = await send(self._url, "GET", f"/responses/{subject.id}?stream=true&starting_after={rest.after}")
            await recorder.end()
            rest.received, rest.whole = bytes(recorder.body), recorder.whole
            assert rest.whole, f"{recorder.http_status} {rest}"
        parsed = Parsed("the OpenAI client behind the restart", subject.seen())
        await read_with(self._library, subject, parsed)
        subject.transcripts += [*rests, parsed, polls]

    async def _poll(self, subject: Subject) -> Json:
        recorder = await send(self._url, "GET", f"/responses/{subject.id}")
        await recorder.end()
        assert recorder.http_status == 200, recorder.body
        response: Json = recorder.json()
        assert Status(response["status"]).ended, response
        return response

    def _look(self) -> None:
        """What the dead process left on disk, against what everybody saw and what was there before."""
        with _copied(self._directory / "respool.db") as copy:
            log = read_file(copy)
            self._asked |= _asked(copy)
        found = [Fault("lost", f"{key.id} is gone") for key in (*self._settled, *self._orphans) if key not in log]
        for key, now in log.items():
            found += self._compare(key, now)
        by_id = {key.id: logged for key, logged in log.items()}
        for subject in (*self._answered, *self._subjects):
            found += self._hold_against(subject, by_id)
        self._count(self._answered)
        self._answered = []
        self._settled |= {key: hash(now) for key, now in log.items() if now.status.ended}
        self._orphans = {key: now for key, now in log.items() if not now.status.ended}
        self.figures.responses = len(log)
        self.figures.faults += found
        assert not found, "\n".join(map(str, found))

    def _compare(self, key: Key, now: Logged) -> list[Fault]:
        if key in self._settled:
            return [] if self._settled[key] == hash(now) else [Fault("altered", f"{key.id} was ended and has changed")]
        before = self._orphans.get(key)
        if before is None:
            return faults(now, [])
        if not now.status.ended:
            return [] if now == before else [Fault("altered", f"{key.id} has changed without an end")]
        return self._compare_orphan(before, now)

    def _compare_orphan(self, before: Logged, now: Logged) -> list[Fault]:
        """An orphan keeps what it had and gets one end, the promised one, within the promised time."""
        self.figures.orphans += 1
        found = faults(now, [])
        seconds = (now.ended_at_ms or 0) / 1000 - self._started
        net = seconds - self._waited_seconds
        self.figures.slowest_end = max(self.figures.slowest_end, seconds)
        self.figures.slowest_net = max(self.figures.slowest_net, net)
        if net > PROMISED_SECONDS:
            found.append(Fault("ends", f"{now.key.id} ended {seconds} s after the restart"))
        added = now.frames[len(before.frames) :]
        # Nothing but the end, and before it the events without which no stream begins.
        began = (b"event: response.created\n", b"event: response.in_progress\n")
        if now.frames[: len(before.frames)] != before.frames or not all(
            frame.startswith(began) for frame in added[:-1]
        ):
            found.append(Fault("altered", f"{now.key.id} had {len(before.frames)} events, then came {added}"))
        expected = Status.CANCELLED if before.cancel_requested else Status.FAILED
        if now.status is not expected or (expected is Status.FAILED and b'"owner_lost"' not in now.frames[-1]):
            found.append(Fault("status", f"{now.key.id} should be {expected}: {now.frames[-1]!r}"))
        return found

    def _hold_against(self, subject: Subject, log: dict[str, Logged]) -> list[Fault]:
        if subject.id is None:
            return []
        logged = log.get(subject.id)
        if logged is None:
            return [Fault("lost", f"a client was told of {subject.id}, which is not in the log")]
        return faults(logged, subject.transcripts)

    def _count(self, subjects: Iterable[Subject]) -> None:
        for subject in subjects:
            streams = [one for one in subject.transcripts if not isinstance(one, Objects)]
            self.figures.events += sum(len(one.events()) for one in streams)
            self.figures.transcripts += len(subject.transcripts)

    def _check_calls(self) -> None:
        """The agent was called once at most for each create, and for nothing that is not in the log."""
        called = Counter(step.detail for step in self._agent.steps() if step.word == "CALLED")
        assert any(called[text] for text in self._texts), "the agent's log has other words"
        twice = [text for text in self._texts if called[text] > 1]
        assert not twice, f"called again: {twice}"
        unknown = [text for text in self._texts - self._asked if called[text]]
        assert not unknown, f"called, and not in the log: {unknown}"


@contextmanager
def _copied(database: Path) -> Iterator[Path]:
    """The database of a dead process as it lies there, so that looking at it changes nothing for the next one."""
    with TemporaryDirectory() as place:
        for file in database.parent.glob(f"{database.name}*"):
            if not file.name.endswith(("-shm", ".lock")):
                shutil.copy(file, place)
        yield Path(place) / database.name


def _asked(path: Path) -> set[str]:
    """The inputs of all requests in the log."""
    with closing(sqlite3.connect(path)) as db:
        return {json.loads(body)["input"] for (body,) in db.execute("SELECT body FROM request")}
