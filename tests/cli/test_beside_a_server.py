"""The command beside a server that runs: on its log, through its HTTP routes, and writing by way of it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples import environments
from respool.proxy.server import bind
from respool.store.open import open_store
from tests.cli.command import RESPOOL, Said, environment, respool
from tests.cli.written import url_of
from tests.proxy.agent import HELLO, Held, Script, Wire, saying, scripted
from tests.proxy.client import Stream
from tests.proxy.scene import id_from
from tests.serving import Served, serving, start_respool

ANN = {"x-agent-user-id": "ann"}
BOB = {"x-agent-user-id": "bob"}


@dataclass(frozen=True, slots=True)
class Running:
    """respool in front of a scripted agent, and its log."""

    url: str
    log: Path
    served: Served | None = None

    async def created(self, headers: dict[str, str], text: str = "hi") -> str:
        """The id of a new background response."""
        body = {"model": "m", "input": text, "background": True, "stream": True}
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=None, trust_env=False) as client,
            client.stream("POST", "/responses", json=body, headers=headers) as response,
        ):
            return await id_from(Stream(response))

    async def status(self, id_: str, headers: dict[str, str]) -> object:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            answer = await client.get(f"/responses/{id_}", headers=headers)
        return answer.json().get("status", answer.status_code)

    async def ended(self, id_: str, headers: dict[str, str]) -> None:
        """Until the response has its end."""
        async with httpx.AsyncClient(base_url=self.url, timeout=None, trust_env=False) as client:
            await client.get(f"/responses/{id_}", params={"stream": "true"}, headers=headers)

    async def on_log(self, *arguments: str) -> Said:
        return await asyncio.to_thread(respool, *arguments, store=self.log)

    async def on_url(self, *arguments: str, **variables: str) -> Said:
        return await asyncio.to_thread(lambda: respool(*arguments, "--url", f"{self.url}/v1", store=None, **variables))


@contextlib.asynccontextmanager
async def running(folder: Path, *scripts: Script, **options: Any) -> AsyncIterator[Running]:
    """respool in this process, on a log that names it."""
    log, port = folder / "respool.db", environments.free_port()
    store = await open_store(url_of(log), served_at=f"http://127.0.0.1:{port}")
    async with scripted(*scripts) as agent, serving(agent.url, store=store, port=port, **options) as served:
        yield Running(served.url, log, served)


@contextlib.asynccontextmanager
async def started_server(folder: Path, *scripts: Script) -> AsyncIterator[Running]:
    """respool as the process that an operator starts."""
    async with scripted(*scripts) as agent:
        server = await asyncio.to_thread(start_respool, agent.url, folder)
        try:
            yield Running(server.url, folder / "respool.db")
        finally:
            await asyncio.to_thread(server.kill)


async def say(process: asyncio.subprocess.Process, words: bytes) -> bytes:
    """What a process has said up to some words."""
    assert process.stdout is not None
    said = b""
    while words not in said:
        piece = await process.stdout.read(4096)
        assert piece, said
        said += piece
    return said


@pytest.mark.parametrize("place", ["log", "url"])
async def test_a_live_response_is_followed_as_it_is_written(tmp_path: Path, place: str) -> None:
    held = Held(6)
    async with started_server(tmp_path, held) as server:
        id_ = await server.created(ANN)
        where = ("--store", url_of(server.log)) if place == "log" else ("--url", server.url)
        tail = await asyncio.create_subprocess_exec(
            *(*RESPOOL, "tail", id_, "--user", "ann", *where),
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        assert await say(tail, b"Hello") == b"Hello"
        held.going_on.set()
        assert tail.stdout is not None
        assert await tail.stdout.read() == b"\n[completed]\n"
        assert await tail.wait() == 0


async def test_a_live_response_is_listed_and_shown_with_what_there_is(tmp_path: Path) -> None:
    held = Held()
    async with running(tmp_path, held) as server:
        id_ = await server.created(ANN, "A question")
        for said in (await server.on_log("ls", "--json"), await server.on_url("ls", "--json", "--user", "ann")):
            row = json.loads(said.out)
            assert {name: row[name] for name in ("id", "status", "model", "events", "input")} == {
                "id": id_,
                "status": "in_progress",
                "model": "m",
                "events": 5,
                "input": "A question",
            }
        for said in (await server.on_log("show", "latest"), await server.on_url("show", "latest", "--user", "ann")):
            assert "Output so far\n  message assistant  in_progress\n    Hel\n" in said.out
        held.going_on.set()


async def test_cancel_and_rm_go_through_the_server_that_holds_the_log(tmp_path: Path) -> None:
    async with running(tmp_path, Held()) as server:
        id_ = await server.created(ANN)
        assert (await server.on_log("cancel", id_[:12])).out == f"{id_} cancelled\n"
        assert await server.status(id_, ANN) == "cancelled"
        assert (await server.on_log("rm", "latest")).out == f"{id_} deleted\n"
        assert await server.status(id_, ANN) == 404


async def test_cancel_and_rm_work_over_http(tmp_path: Path) -> None:
    async with running(tmp_path, Held()) as server:
        id_ = await server.created(ANN)
        refused = await server.on_url("rm", id_, "--user", "ann")
        assert (refused.code, "Cannot delete an in-flight response." in refused.err) == (6, True)
        assert (await server.on_url("cancel", id_, "--user", "bob")).code == 5
        assert (await server.on_url("cancel", id_, "--user", "ann")).out == f"{id_} cancelled\n"
        assert (await server.on_url("rm", id_[:15], "--user", "ann")).out == f"{id_} deleted\n"
        assert await server.status(id_, ANN) == 404


async def test_a_mistyped_id_among_several_deletes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, saying(*HELLO)) as server:
        id_ = await server.created(ANN)
        await server.ended(id_, ANN)
        assert (await server.on_log("rm", id_, "nope")).code == 5
        assert await server.status(id_, ANN) == "completed"


async def test_the_events_are_the_same_from_the_log_and_over_http(tmp_path: Path) -> None:
    async with running(tmp_path, saying(*HELLO)) as server:
        id_ = await server.created(ANN)
        await server.ended(id_, ANN)
        log = await server.on_log("events", id_, "--raw", "--after", "3")
        url = await server.on_url("events", id_, "--raw", "--after", "3", "--user", "ann")
        assert log.out == url.out
        assert log.out.count("event: ") == len(HELLO) - 4
        rows = (await server.on_url("events", id_, "--json", "--user", "ann")).lines
        assert [json.loads(row)["at_ms"] for row in rows] == [None] * len(HELLO)


async def test_what_http_does_not_show_is_said(tmp_path: Path) -> None:
    async with running(tmp_path, saying(*HELLO)) as server:
        id_ = await server.created(ANN)
        await server.ended(id_, ANN)
        for verb in (("plot", id_), ("replay", id_), ("stats",), ("check",), ("export",), ("vacuum",)):
            said = await server.on_url(*verb)
            assert (said.code, said.out) == (2, "")
            assert "look into the log itself with --store" in said.err or "from the log itself" in said.err
        said = await server.on_url("ls", "--text", "hi", "--user", "ann")
        assert (said.code, "with --store" in said.err) == (2, True)


async def test_prune_goes_through_the_server_and_what_needs_the_file_waits(tmp_path: Path) -> None:
    async with running(tmp_path, saying(*HELLO), saying(*HELLO), Held()) as server:
        ids = [await server.created(headers) for headers in (ANN, BOB, ANN)]
        await server.ended(ids[0], ANN)
        await server.ended(ids[1], BOB)
        would = await server.on_log("prune", "--older", "0s", "--dry-run")
        assert (sorted(line.split()[0] for line in would.lines), would.err) == (
            sorted(ids[:2]),
            "2 responses would be deleted\n",
        )
        assert (await server.on_log("prune", "--status", "completed", "--user", "bob")).out == "1 response deleted\n"
        assert await server.status(ids[1], BOB) == 404
        assert (await server.on_log("prune", "--older", "0s")).out == "1 response deleted\n"
        assert await server.status(ids[2], ANN) == "in_progress"
        for verb in (("vacuum",), ("prune", "--max-size", "1M")):
            said = await server.on_log(*verb)
            assert (said.code, "this needs the log for itself, so stop the server first" in said.err) == (4, True)


async def test_the_list_of_everybody_is_for_administrators(tmp_path: Path) -> None:
    async with running(tmp_path, saying(*HELLO)) as server:
        assert server.served is not None
        listener = bind("127.0.0.1", 0)
        admin = f"127.0.0.1:{listener.getsockname()[1]}"
        await server.served.server.listen(listener, {"admin": True})
        ids = [await server.created(headers) for headers in (ANN, BOB)]
        said = await server.on_url("ls")
        assert (said.code, "to administrators alone: say --user or --conversation" in said.err) == (6, True)
        everybody = await asyncio.to_thread(respool, "ls", "--json", "--url", f"http://{admin}")
        rows = {json.loads(line)["id"]: json.loads(line)["owner"] for line in everybody.lines}
        assert rows == dict(zip(ids, ("x-agent-user-id=ann", "x-agent-user-id=bob"), strict=True))
        said = await asyncio.to_thread(respool, "show", ids[0], "--url", f"http://{admin}")
        assert (said.code, "lists and no more: say the one that serves" in said.err) == (6, True)


async def test_a_server_with_keys_is_shown_one(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret-key-of-this-test-0123456789\n")
    (tmp_path / "keys").chmod(0o600)
    async with running(tmp_path, saying(*HELLO), api_key_file=str(tmp_path / "keys")) as server:
        said = await server.on_url("ls", "--user", "ann")
        assert (said.code, "asks for a key: set RESPOOL_API_KEY" in said.err) == (6, True)
        for variables in (
            {"RESPOOL_API_KEY": "secret-key-of-this-test-0123456789"},
            {"RESPOOL_API_KEY_FILE": str(tmp_path / "keys")},
        ):
            assert (await server.on_url("ls", "--user", "ann", **variables)).out == "no responses\n"


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    url = f"http://127.0.0.1:{environments.free_port()}"
    said = respool("ls", RESPOOL_URL=url)
    assert said.code == 6
    assert said.err.startswith(f"respool: no server answers at {url} (")
    assert len(said.err.splitlines()) == 1


async def test_a_server_that_is_no_respool_is_told_so() -> None:
    async def other(wire: Wire) -> None:
        await wire.request()
        await wire.answer("200 OK", b'{"hello":"world"}')

    async with scripted(other) as agent:
        said = await asyncio.to_thread(respool, "ls", "--url", agent.url)
    assert (said.code, "it is no respool" in said.err) == (6, True)
