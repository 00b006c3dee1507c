"""An agent that is still starting: a create waits for it as long as nobody can have got anything of it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.proxy.agent import Agent, Script, Wire, answer, saying
from tests.proxy.client import dial, error_of, events_of, posting, text_of, whole
from tests.proxy.scene import BACKGROUND, scene
from tests.proxy.storage import CHOSEN, GIVEN_ID

HELLO = saying(*answer("Hel", "lo"))


class Late:
    """An address that refuses connections until its agent has started."""

    def __init__(self) -> None:
        self.agent = Agent()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.agent.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @contextlib.asynccontextmanager
    async def started(self, script: Script) -> AsyncIterator[Agent]:
        self._socket.listen()
        self._socket.setblocking(False)
        answering = asyncio.create_task(self._answer(script))
        try:
            yield self.agent
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _answer(self, script: Script) -> None:
        while True:
            taken, _ = await asyncio.get_running_loop().sock_accept(self._socket)
            with taken, contextlib.suppress(ConnectionError):
                await script(Wire(taken, self.agent))

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def late() -> Any:
    made = Late()
    try:
        yield made
    finally:
        made.close()


async def others_are_served(client: Any) -> None:
    for _ in range(3):
        assert (await client.get("/_respool/health")).status_code == 200


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, BACKGROUND])
async def test_a_create_waits_for_an_agent_that_is_still_starting(asked: dict[str, Any]) -> None:
    with late() as address:
        async with scene(HELLO, upstream=address.agent.url, start_wait=600, accept_grace_ms=600_000) as s:
            posting_ = asyncio.create_task(s.create(CHOSEN, **asked))
            await others_are_served(s.client)
            assert not posting_.done()
            async with address.started(HELLO) as agent:
                response = await posting_
                assert response.status_code == 200
                while (value := (await s.client.get(f"/responses/{GIVEN_ID}")).json()).get("status") != "completed":
                    pass
                assert text_of(value) == "Hello"
                assert len(agent.asked) == 1


async def test_a_background_create_gets_its_id_while_it_waits_and_can_be_cancelled() -> None:
    with late() as address:
        async with scene(HELLO, upstream=address.agent.url, start_wait=600, accept_grace_ms=1) as s:
            created = await s.create(background=True)
            assert (created.status_code, created.json()["status"]) == (200, "in_progress")
            cancelled = await s.cancel(created.json()["id"])
            assert cancelled.json()["status"] == "cancelled"


async def test_a_foreground_client_that_leaves_ends_the_wait() -> None:
    with late() as address:
        async with scene(HELLO, upstream=address.agent.url, start_wait=600) as s:
            async with dial(s.served.url) as raw:
                await raw.send(posting("/responses", {"input": "hi"}, f"x-agent-response-id: {GIVEN_ID}"))
                await others_are_served(s.client)
            while (found := await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404:
                pass
            assert found.json()["status"] == "cancelled"


@pytest.mark.parametrize("wait", [0, 0.1])
async def test_an_agent_that_does_not_start_in_time_is_unreachable(wait: float) -> None:
    with late() as address:
        async with scene(HELLO, upstream=address.agent.url, start_wait=wait) as s:
            response = await s.create()
            assert (response.status_code, error_of(response)["code"]) == (502, "upstream_unreachable")
            stream = await s.create(**BACKGROUND)
            assert stream.status_code == 502


async def test_an_agent_that_took_the_connection_is_not_called_again() -> None:
    async def closes(wire: Wire) -> None:
        await wire.request()

    async with scene(closes, HELLO, start_wait=600) as s:
        response = await s.create()
        assert (response.status_code, error_of(response)["code"]) == (502, "upstream_disconnected")
        assert len(s.agent.asked) == 1
        assert whole(events_of((await s.create(stream=True)).content))["status"] == "completed"
