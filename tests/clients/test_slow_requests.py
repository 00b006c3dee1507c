"""Clients that send their requests slowly, or not at all: cut off within the time that they have, and told so."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.bench.processes import cpu_seconds
from tests.clients.drip import BODY, HEAD, dripping
from tests.clients.process import Respool, clock, respool
from tests.proxy.agent import HELLO, Held, Wire, answering, saying, scripted
from tests.proxy.client import dial
from tests.proxy.scene import scene

CHUNKS = b"POST /responses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n"
THROUGH = b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nsome"

SECONDS = 1.0
OPTIONS = ("--request-timeout-seconds", f"{SECONDS:g}", "--connection-idle-seconds", "1.5")
MARGIN = 1.5
"""What a loaded machine may take to run a timer and a test, in seconds."""


async def cut(served: Respool, begin: bytes) -> tuple[bytes, float]:
    """What a client gets that sends `begin` at once and then a byte ten times in its time; and when it is over."""
    async with dial(served.url) as raw:
        began = clock()
        await raw.send(begin)
        return await dripping(raw, SECONDS / 10), began.seconds


async def torn(wire: Wire) -> None:
    """The agent of an upload that must never look whole."""
    await wire.request_head()
    assert len(await wire.rest()) < 1000


async def test_requests_that_come_by_single_bytes_are_refused_in_time(tmp_path: Path) -> None:
    async with scripted(torn) as agent, respool(agent.url, tmp_path, *OPTIONS) as served:
        begun = [cut(served, begin) for begin in (HEAD, BODY, CHUNKS, THROUGH) * 5]
        answering_others = asyncio.create_task(served.client.get("/_respool/health"))
        for got, seconds in await asyncio.gather(*begun):
            assert SECONDS <= seconds <= SECONDS + MARGIN
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"\r\nconnection: close" in head
            error = json.loads(body)
            assert error["error"]["code"] == "request_timeout"
            assert f"x-request-id: {error['additionalInfo']['request_id']}".encode() in head
        assert (await answering_others).status_code == 200


async def test_connections_that_ask_nothing_are_closed_without_a_word(tmp_path: Path) -> None:
    async with scripted(torn) as agent, respool(agent.url, tmp_path, *OPTIONS) as served:
        began = clock()
        async with dial(served.url) as new, dial(served.url) as used:
            await used.send(b"GET /_respool/health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await used.head()).startswith(b"HTTP/1.1 200")
            assert await used.receive(15) == b'{"status":"ok"}'
            assert await new.rest() == b""
            assert SECONDS <= began.seconds <= SECONDS + MARGIN
            assert await used.rest() == b""
            assert 1.5 <= began.seconds <= 1.5 + MARGIN


async def test_a_second_request_has_its_whole_time_from_its_first_byte() -> None:
    async with scene(answering("200 OK", b"ok"), request_timeout_seconds=0.5) as s, dial(s.served.url) as raw:
        for pause in (0, 0.4, 0.4):
            await asyncio.sleep(pause)
            await raw.send(b"GET /x HT")
            await asyncio.sleep(0.3)
            await raw.send(b"TP/1.1\r\nhost: x\r\n\r\n")
            assert (await raw.head()).startswith(b"HTTP/1.1 200")
            assert await raw.receive(2) == b"ok"


async def test_a_body_that_gets_on_may_take_as_long_as_it_takes() -> None:
    body = json.dumps({"input": "x" * 20_000}).encode()
    async with scene(saying(*HELLO), request_timeout_seconds=0.5) as s, dial(s.served.url) as raw:
        await raw.send(b"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 4096):
            await raw.send(body[at : at + 4096])
            await asyncio.sleep(0.3)
        assert (await raw.head()).startswith(b"HTTP/1.1 200")


async def test_a_wait_for_the_agent_is_not_the_clients_fault() -> None:
    """Neither while the agent takes the body slowly, nor once it has begun to answer."""

    async def script(wire: Wire) -> None:
        await wire.request_head()
        await asyncio.sleep(1)
        await wire.receive(8 * 2**20)
        await wire.begin(kind="text/plain")
        await wire.chunk(b"go on")
        await wire.receive(2)
        await wire.chunk(b"done")
        await wire.end()

    async with scene(script, request_timeout_seconds=0.3) as s, dial(s.served.url) as raw:
        size = 8 * 2**20 + 2
        await raw.send(b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        await raw.send(bytes(size - 2))
        await raw.head()
        assert await raw.receive(10) == b"5\r\ngo on\r\n"
        await asyncio.sleep(0.6)
        await raw.send(b"ok")
        assert await raw.receive(9) == b"4\r\ndone\r\n"


async def test_a_stream_is_no_pause_between_two_requests() -> None:
    held = Held()
    async with scene(held, request_timeout_seconds=0.1, connection_idle_seconds=0.1) as s, s.stream() as stream:
        await stream.until("response.output_text.delta")
        await asyncio.sleep(0.5)
        held.going_on.set()
        assert (await stream.rest())[-1].name == "response.completed"


async def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    """What is not read would make the kernel reset the connection, and take the answer away."""
    size = 8 * 2**20
    async with scene(saying(*HELLO), max_request_bytes=1000) as s, dial(s.served.url) as raw:
        await raw.send(b"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        await raw.send(bytes(size))
        assert (await raw.rest()).startswith(b"HTTP/1.1 413")


# --- a thousand of them


@pytest.mark.soak
async def test_a_thousand_slow_requests_are_cut_within_30_s_and_others_are_served(tmp_path: Path) -> None:
    """Half drip a head, half a body, a byte a second; who is cut comes again. The settings are the defaults."""
    count = int(os.environ.get("RESPOOL_SOAK_SLOW", "1000"))
    (tmp_path / "spared").mkdir()
    async with (
        scripted(saying(*HELLO)) as agent,
        respool(agent.url, tmp_path) as served,
        # Asked in turn with the other, so that what else the machine does is the same for both.
        respool(agent.url, tmp_path / "spared") as spared,
    ):
        command = [sys.executable, "-m", "tests.clients.drip", served.url, str(count), "70"]
        drip = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        await asyncio.sleep(20)
        used = cpu_seconds([served.server.process.pid])
        times = await _answer_times({"dripped on": served, "spared": spared}, 40)
        used = cpu_seconds([served.server.process.pid]) - used
        output, _ = await drip.communicate()
        assert drip.returncode == 0
    ages = json.loads(output)
    print(f"{count} slow requests, cut {len(ages)} times, after {min(ages):.1f} to {max(ages):.1f} s")
    print(f"respool used {used / 40:.0%} of a processor beside them")
    for name, found in times.items():
        print(f"{name}: p50, p99 {_shown(found)}")
    assert len(ages) >= 2 * count
    # Fifteen seconds, and what a busy machine is late.
    assert max(ages) <= 30


async def _answer_times(servers: dict[str, Respool], seconds: float) -> dict[str, list[float]]:
    """How long other clients wait, by what they ask and whom."""
    times: dict[str, list[float]] = {f"{what}, {name}": [] for what in ("health", "create") for name in servers}
    began = clock()
    while began.seconds < seconds:
        for name, server in servers.items():
            one = clock()
            assert (await server.client.get("/_respool/health")).status_code == 200
            times[f"health, {name}"].append(one.seconds)
            one = clock()
            assert (await server.client.post("/responses", json={"input": "hi"})).json()["status"] == "completed"
            times[f"create, {name}"].append(one.seconds)
        await asyncio.sleep(0.02)
    return times


def _shown(times: list[float]) -> str:
    times = sorted(times)
    return f"{times[len(times) // 2] * 1e3:.1f}, {times[len(times) * 99 // 100] * 1e3:.1f} ms"
