"""What must never be kept: credentials of callers anywhere, and anything of a response that is not stored."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.environments import Server
from tests.proxy.agent import Held, Script, Wire, answer, answering, delta, opening, saying, scripted
from tests.proxy.client import Stream
from tests.proxy.scene import BACKGROUND
from tests.serving import start_respool

SECRET = "s3cr3t-of-a-caller"
CREDENTIALS = {
    **dict.fromkeys(("api-key", "x-api-key", "ocp-apim-subscription-key", "x-functions-key"), SECRET),
    **dict.fromkeys(("authorization", "proxy-authorization", "x-forwarded-authorization"), f"Bearer {SECRET}"),
    "cookie": f"session={SECRET}",
}
QUERY = {"api-version": "2025-11-15", "code": SECRET, "access_token": SECRET, "sig": SECRET}
MARK = "words-of-a-response-that-is-not-stored"
NOBODY = "http://127.0.0.1:1"


async def reset(wire: Wire) -> None:
    """Some words, and then a broken connection in the middle of an event."""
    await wire.request()
    await wire.begin(f"set-cookie: session={SECRET}")
    await wire.say(*opening(), delta(MARK))
    await wire.chunk(b'event: response.output_text.delta\ndata: {"delta": "' + MARK.encode())
    wire.reset()


async def garbage(wire: Wire) -> None:
    await wire.request()
    await wire.begin()
    await wire.chunk(b"event: response.created\ndata: {" + MARK.encode() + b"\n\n")
    await wire.end()


REFUSAL = answering("401 Unauthorized", b'{"error":{"message":"' + MARK.encode() + b'"}}', f"set-cookie: {SECRET}")
ERROR = saying(*opening(), delta(MARK), {"type": "error", "code": MARK, "message": MARK, "param": None})
ALL: tuple[Script, ...] = (saying(*answer(MARK)), ERROR, reset, garbage, REFUSAL)


@asynccontextmanager
async def killed_in_the_end(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client with credentials, while respool lives."""
    async with httpx.AsyncClient(
        base_url=server.url, headers=CREDENTIALS, params=QUERY, timeout=None, trust_env=False
    ) as client:
        try:
            yield client
        finally:
            server.kill()


def found(folder: Path, *words: str) -> set[tuple[str, str]]:
    """Which of the words are in which file, the log of the process among them."""
    files = [(file.name, file.read_bytes().lower()) for file in folder.iterdir()]
    assert {"respool.db", "respool.log"} <= {name for name, _ in files}
    return {(name, word) for name, content in files for word in words if word.lower().encode() in content}


async def ask_everything(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """Creates of every kind that the agent answers in every way, and requests that go wrong before."""
    for kind in ({}, {"stream": True}, {"background": True}, BACKGROUND):
        for _ in ALL:
            await client.post("/responses", json={**body, **kind})
    await client.post("/responses", content=b"{" + SECRET.encode())
    await client.post("/responses", json={**body, "previous_response_id": "caresp_" + "0" * 50})
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        await client.request(method, f"/responses/caresp_{'0' * 50}{path}")
    await client.get("/_respool/responses?conversation=c")
    await client.get("/something/else")


async def test_no_credential_of_a_caller_is_anywhere_after_a_crash(tmp_path: Path) -> None:
    """In headers or in the query, whatever became of the request, with everything logged."""
    held = Held()
    async with scripted(*ALL * 4, answering("200 OK", b"{}"), held) as agent:
        server = start_respool(agent.url, tmp_path, "--log-level", "debug")
        async with killed_in_the_end(server) as client:
            await ask_everything(client, {"input": "this is stored"})
            async with client.stream("POST", "/responses", json=BACKGROUND) as response:
                await Stream(response).until("response.output_text.delta")
                server.kill()
        assert any(SECRET in value for asked in agent.asked for _, value in asked.headers), "they were sent on"
    assert found(tmp_path, SECRET, "api-key", "cookie", "this is stored") == {
        (name, "this is stored") for name, _ in found(tmp_path, "this is stored")
    }
    assert found(tmp_path, "this is stored")


async def test_no_credential_is_logged_when_the_agent_cannot_be_reached(tmp_path: Path) -> None:
    server = start_respool(NOBODY, tmp_path, "--log-level", "debug")
    async with killed_in_the_end(server) as client:
        assert (await client.post("/responses", json={"stream": True})).status_code == 502
        assert (await client.post("/responses", json={"background": True})).status_code == 502
        assert (await client.get("/something/else")).status_code == 502
    assert found(tmp_path, SECRET) == set()


async def test_no_credential_of_a_run_that_waits_its_turn_is_kept_for_it(tmp_path: Path) -> None:
    async with scripted(Held()) as agent:
        server = start_respool(agent.url, tmp_path, "--log-level", "debug", "--max-in-flight", "1")
        async with killed_in_the_end(server) as client:
            first = await client.post("/responses", json={"background": True})
            assert first.json()["status"] == "in_progress"
            asked = {"background": True, "input": "this waits"}
            assert (await client.post("/responses", json=asked)).json()["status"] == "queued"
            for name in CREDENTIALS:
                del client.headers[name]
            assert (await client.post("/responses", json=asked)).json()["status"] == "queued"  # only in the query
    assert found(tmp_path, SECRET) == set()
    assert found(tmp_path, "this waits")


@pytest.mark.parametrize("store", [False, True])
async def test_no_byte_of_a_response_that_is_not_stored_is_on_disk_however_it_went(tmp_path: Path, store: bool) -> None:
    """The same search finds those that are stored."""
    asked = {"input": f"question {MARK}", "metadata": {"mark": MARK}, "instructions": MARK, "store": store}
    async with scripted(*ALL * 2) as agent:
        server = start_respool(agent.url, tmp_path, "--log-level", "debug")
        async with killed_in_the_end(server) as client:
            for kind in ({}, {"stream": True}):
                for _ in ALL:
                    await client.post("/responses", json={**asked, **kind})
    places = {name for name, _ in found(tmp_path, MARK, "output_text", "caresp_")}
    assert ("respool.db-wal" in places) == store
    assert (places <= {"respool.log"}) == (not store)
    assert found(tmp_path, MARK) == {(name, MARK) for name in places - {"respool.log"}}
