"""A real respool process before a scripted agent, one run after the other, and what must be true of each."""

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from examples.environments import Server
from tests.proxy.agent import HELLO, Wire, closing, completed, delta, opening, scripted
from tests.proxy.client import Event, Json, Stream, error_of, events_of, text_of, whole
from tests.proxy.scene import BACKGROUND
from tests.serving import start_respool

ENDED = ("completed", "failed", "incomplete", "cancelled")


class Paced:
    """A script: a whole answer, each delta when it is told to go on; or HELLO at once, for an input that says so."""

    def __init__(self) -> None:
        self.turns: asyncio.Queue[bool] = asyncio.Queue()

    async def __call__(self, wire: Wire) -> None:
        turns = self.turns
        asked = await wire.request()
        await wire.begin()
        if asked.json["input"] == "at once":
            await wire.say(*HELLO)
        else:
            await wire.say(*opening())
            said = 0
            while await turns.get():
                await wire.say(delta(f"{said} "))
                said += 1
            text = "".join(f"{number} " for number in range(said))
            await wire.say(*closing(text), completed(text))
        await wire.end()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client of one background stream was told: the events, or the error that was all of it."""

    id: str
    events: list[Event]
    refused: Json | None = None


class Bench:
    """One respool process with its database at `path`."""

    def __init__(
        self, server: Server, start: Callable[[int], Server], path: Path, client: httpx.AsyncClient, paced: Paced
    ) -> None:
        self.server = server
        self._start = start
        self.path = path
        self.client = client
        self.paced = paced

    def restart(self) -> None:
        """A new process on the same log, at the same address."""
        was_killed = self.server.process.poll() == -signal.SIGKILL
        assert was_killed or self.server.stop(20) == 0
        self.server = self._start(int(self.server.url.rpartition(":")[2]))

    async def run(self, deltas: int) -> Outcome:
        """A background stream of so many deltas, each said when the one before it has been seen."""
        turns: asyncio.Queue[bool] = asyncio.Queue()
        self.paced.turns = turns
        id_ = f"caresp_{secrets.token_hex(25)}"
        body = {"model": "m", "input": "paced", **BACKGROUND}
        headers = {"x-agent-response-id": id_}
        async with self.client.stream("POST", "/responses", json=body, headers=headers) as response:
            if response.status_code != 200:
                await response.aread()
                assert response.status_code == 503, response.text
                return Outcome(id_, [], error_of(response))
            events: list[Event] = []
            stream = Stream(response)
            turns.put_nowait(deltas > 0)
            while event := await stream.next():
                events.append(event)
                if event.name.endswith("text.delta"):
                    deltas -= 1
                    turns.put_nowait(deltas > 0)
            turns.put_nowait(False)
        if [event.name for event in events] == ["error"]:
            return Outcome(id_, [], events[0].data)
        return Outcome(id_, events)

    async def ended(self, id_: str) -> Json:
        """The response once its end is in the log."""
        while True:
            response = await self.client.get(f"/responses/{id_}")
            assert response.status_code == 200, response.text
            value: Json = response.json()
            if value["status"] in ENDED:
                return value

    async def replay(self, id_: str) -> list[Event]:
        response = await self.client.get(f"/responses/{id_}", params={"stream": "true"})
        assert response.status_code == 200, response.text
        return events_of(response.content)

    async def check(self, outcome: Outcome, deltas: int) -> str:
        """What came of a run whose fault is gone: its status, or "refused". Fails where more was told than is so."""
        path = f"/responses/{outcome.id}"
        if outcome.refused is not None:
            assert outcome.refused["code"] == "storage_error"
            assert (await self.client.get(path)).status_code == 404
            return "refused"
        final = whole(outcome.events)
        assert await self.ended(outcome.id) == final
        assert await self.replay(outcome.id) == outcome.events
        if final["status"] == "completed":
            assert text_of(final) == "".join(f"{number} " for number in range(deltas))
        else:
            assert (final["status"], final["error"]["code"]) == ("failed", "storage_error")
            assert final["output"] == [] or text_of(final) == "".join(
                event.data["delta"] for event in outcome.events if event.name.endswith("text.delta")
            )
        return str(final["status"])

    async def works(self) -> None:
        """A create is served as if nothing had been."""
        response = await self.client.post("/responses", json={"model": "m", "input": "at once"})
        assert (response.status_code, response.json().get("status")) == (200, "completed"), response.text


@contextlib.asynccontextmanager
async def bench(
    folder: Path, *options: str, log: Path | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Bench]:
    """A bench whose process has to end in order, unless it was killed. `log` is another place for its database."""
    paced = Paced()
    path = log or folder / "respool.db"
    options = (*options, "--store", f"sqlite:///{path}")
    async with scripted(paced) as agent:

        def start(port: int | None = None) -> Server:
            return start_respool(agent.url, folder, *options, port=port, environment=environment)

        server = await asyncio.to_thread(start)
        client = httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False, verify=False)
        b = Bench(server, start, path, client, paced)
        try:
            yield b
        finally:
            await client.aclose()
            paced.turns.put_nowait(False)
            was_killed = b.server.process.poll() == -signal.SIGKILL
            code = await asyncio.to_thread(b.server.stop, 20)
        assert was_killed or code == 0, b.server.log.read_text()[-2000:]
