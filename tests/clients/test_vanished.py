"""Clients that vanish without a word, as when a train enters a tunnel: what they held is given back."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.clients.namespace import CLIENT, network, vanish
from tests.clients.process import clock, respool
from tests.proxy.agent import Wire, beginning, scripted
from tests.proxy.client import dial, posting
from tests.raw_server import Peer
from tests.serving import until

GIVEN_ID = "caresp_" + "v" * 50

# What clients are in the middle of when they vanish, as the bytes that they have sent; all that leave a run behind.
FOREGROUND = [
    posting("/responses", {"stream": True}),
    posting("/responses", {"input": "an answer in one piece"}),
    posting("/responses", {"stream": True, "store": False}),
    posting("/through", {"input": "not ours"}),
]
OTHERS = [
    posting("/responses", {"stream": True, "background": True}, f"x-agent-response-id: {GIVEN_ID}"),
    f"GET /responses/{GIVEN_ID}?stream=true HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
    b"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    b"GET /_respool/health HTTP/1.1\r\nhost: x\r\n\r\n",
    b"",
]


class Counting:
    """A script: the beginning of an answer, then silence; how many respool has left."""

    def __init__(self) -> None:
        self.asked = self.left = 0

    async def __call__(self, wire: Wire) -> None:
        await beginning(wire)
        self.asked += 1
        await wire.gone()
        self.left += 1


@pytest.mark.parametrize(
    ("write_timeout", "keep_alive", "limit"),
    [
        # Silence, then what was sent into it unanswered, then the kernel's coarse timers and a busy machine.
        pytest.param(3, 1, 3 + 1 + 4, id="soon"),
        pytest.param(30, 15, 60, id="by default", marks=pytest.mark.soak),
    ],
)
async def test_what_vanished_clients_held_is_given_back(
    write_timeout: int, keep_alive: int, limit: float, tmp_path: Path
) -> None:
    with network() as name:
        await _vanishing(name, write_timeout, keep_alive, limit, tmp_path)


async def _vanishing(name: str, write_timeout: int, keep_alive: int, limit: float, directory: Path) -> None:
    options = ["--write-timeout-seconds", str(write_timeout), "--keep-alive-seconds", str(keep_alive)]
    # Their own deadlines must not be what ends these clients.
    options += ["--request-timeout-seconds", "600", "--connection-idle-seconds", "600"]
    agent_says = Counting()
    async with scripted(agent_says) as agent, respool(agent.url, directory, *options) as served:
        await served.client.get("/_respool/health")
        before = served.sockets
        async with contextlib.AsyncExitStack() as stack:
            for request in [*FOREGROUND, *OTHERS]:
                client = await stack.enter_async_context(dial(served.url, source=CLIENT))
                await client.send(request)
                if request in OTHERS[:2]:
                    await client.head()
            alive = await stack.enter_async_context(dial(served.url))
            await alive.send(OTHERS[1])
            await alive.head()
            await until(lambda: agent_says.asked == len(FOREGROUND) + 1)
            assert served.sockets == before + len(FOREGROUND) * 2 + len(OTHERS) + 2
            vanish(name)
            began = clock()
            # The background run and the client that is still there stay, with a connection each.
            while served.sockets > before + 2 or agent_says.left < len(FOREGROUND):
                await asyncio.sleep(0.05)
                assert began.seconds < limit, f"{served.sockets - before - 2} sockets are still held"
            print(f"vanished clients given up after {began.seconds:.1f} s, promised within {limit:g} s")
            assert served.sockets == before + 2
            await _is_served(alive)
            assert (await served.client.get(f"/responses/{GIVEN_ID}")).json()["status"] == "in_progress"
            await served.client.post(f"/responses/{GIVEN_ID}/cancel")


async def _is_served(alive: Peer) -> None:
    """Until it has got another sign of life."""
    got = b""
    while b": keep-alive" not in got:
        got += await alive.receive(1)
