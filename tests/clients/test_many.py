"""More clients than there is room for: refused in words, and nobody who is in loses anything."""

import asyncio
import contextlib
import json
import os
import resource
from pathlib import Path

import pytest

from respool.proxy.sockets import connections_allowed
from tests.clients.process import Respool, respool
from tests.proxy.agent import Held, scripted
from tests.proxy.client import Stream, dial, whole
from tests.raw_server import Peer
from tests.serving import until

HEALTH = b"GET /_respool/health HTTP/1.1\r\nhost: x\r\n\r\n"
READ = b"GET /responses/caresp_" + b"n" * 50 + b" HTTP/1.1\r\nhost: x\r\n\r\n"


async def asking(stack: contextlib.AsyncExitStack, served: Respool, request: bytes, count: int) -> list[bytes]:
    """The heads of the answers to so many clients, who stay; b"" for one that was cut off."""

    async def one() -> bytes:
        raw: Peer = await stack.enter_async_context(dial(served.url))
        try:
            await raw.send(request)
            return await raw.head()
        except (EOFError, ConnectionError):
            return b""

    return [await one() for _ in range(count)]


async def test_beyond_the_limit_clients_are_told_and_health_is_answered(tmp_path: Path) -> None:
    held = Held()
    async with scripted(held) as agent, respool(agent.url, tmp_path, "--max-connections", "20") as served:
        # The first is the test's own client, which is in the middle of a stream.
        async with served.client.stream("POST", "/responses", json={"stream": True}) as response:
            stream = Stream(response)
            seen = await stream.until("response.output_text.delta")
            async with contextlib.AsyncExitStack() as stack:
                for head in await asking(stack, served, READ, 19):
                    assert head.startswith(b"HTTP/1.1 404")
                for head in await asking(stack, served, HEALTH, 1):
                    assert head.startswith(b"HTTP/1.1 200")
                async with dial(served.url) as raw:
                    await raw.send(READ)
                    refusal, _, body = (await raw.rest()).partition(b"\r\n\r\n")
                    assert refusal.startswith(b"HTTP/1.1 503")
                    assert json.loads(body)["error"]["message"] == "There are too many connections."
                heads = await asking(stack, served, HEALTH, 60)
                assert heads[0].startswith(b"HTTP/1.1 200")
                assert heads[-1] == b""
                held.going_on.set()
                assert whole([*seen, *await stream.rest()])["status"] == "completed"
        async with contextlib.AsyncExitStack() as stack:
            await until(lambda: served.sockets < 10)
            for head in await asking(stack, served, READ, 10):
                assert head.startswith(b"HTTP/1.1 404")


async def test_without_a_file_left_to_open_it_serves_whom_it_has_and_then_everybody(tmp_path: Path) -> None:
    held = Held()
    async with scripted(held) as agent, respool(agent.url, tmp_path, "--max-connections", "1000") as served:
        async with served.client.stream("POST", "/responses", json={"stream": True, "background": True}) as response:
            stream = Stream(response)
            seen = await stream.until("response.output_text.delta")
            pid = served.server.process.pid
            room = len(os.listdir(f"/proc/{pid}/fd")) + 20
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, limits[1]))
            async with contextlib.AsyncExitStack() as stack:
                heads = await asyncio.wait_for(asking(stack, served, HEALTH, 18), 30)
                assert all(head.startswith(b"HTTP/1.1 200") for head in heads)
                waiting = [await stack.enter_async_context(dial(served.url)) for _ in range(40)]
                for raw in waiting:
                    with contextlib.suppress(ConnectionError):
                        await raw.send(HEALTH)
                held.going_on.set()
                assert whole([*seen, *await stream.rest()])["status"] == "completed"
            response = await served.client.post("/responses", json={})
            assert response.json()["status"] == "completed"
        async with contextlib.AsyncExitStack() as stack:
            for head in await asking(stack, served, HEALTH, 10):
                assert head.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("files", "connections"), [(100, 36), (256, 192), (1000, 750)])
def test_a_quarter_of_the_files_is_left_to_agents_and_log(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connections_allowed() == connections
