"""The HTTP/1.1 server: what it refuses, what it bears, and how it stops."""

import asyncio
import socket
from typing import Any

import pytest

from respool.proxy.server import Server, bind
from tests.proxy.agent import answer, answering, saying
from tests.proxy.client import dial
from tests.proxy.scene import scene
from tests.raw_server import on_both_loops
from tests.store.probe import let_others_run

HOST = b"host: respool\r\n"


async def test_large_headers_pass_and_endless_ones_do_not() -> None:
    async with scene(answering("200 OK", b"ok")) as s:
        async with dial(s.served.url) as raw:
            await raw.send(b"GET /x HTTP/1.1\r\n" + HOST + b"x-large: " + b"a" * 40_000 + b"\r\n\r\n")
            assert (await raw.head()).startswith(b"HTTP/1.1 200")
            assert s.agent.asked[0].header("x-large") == ["a" * 40_000]
        async with dial(s.served.url) as raw:
            await raw.send(b"GET /y HTTP/1.1\r\n" + HOST + b"x-large: " + b"a" * 1_000_000)
            assert (await raw.rest())[9:10] in (b"4", b"")
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("size", [1, 7])
async def test_a_request_may_come_in_small_pieces(size: int) -> None:
    request = b'POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{"input":"h"}'
    async with scene(saying(*answer("x"))) as s, dial(s.served.url) as raw:
        for start in range(0, len(request), size):
            await raw.send(request[start : start + size])
            await asyncio.sleep(0)
        assert (await raw.rest()).startswith(b"HTTP/1.1 200")
        assert s.agent.asked[0].json == {"input": "h", "stream": True}


async def test_a_client_that_speaks_http10_gets_its_stream_to_the_close() -> None:
    async with scene(saying(*answer("x"))) as s, dial(s.served.url) as raw:
        await raw.send(b'POST /responses HTTP/1.0\r\nhost: x\r\ncontent-length: 15\r\n\r\n{"stream":true}')
        head = await raw.head()
        assert head.startswith(b"HTTP/1.1 200")
        assert b"chunked" not in head
        body = await raw.rest()
        assert body.startswith(b"event: response.created\n")
        assert body.rpartition(b"event: ")[2].startswith(b"response.completed\n")


async def test_ours_have_no_server_and_no_date_header() -> None:
    async with scene(saying(*answer("x"))) as s:
        for response in (await s.create(), await s.create(stream=True), await s.client.get("/_respool/health")):
            assert "server" not in response.headers
            assert "date" not in response.headers


async def test_many_requests_in_one_connection_are_answered_in_order() -> None:
    async with scene(answering("200 OK", b"agent")) as s, dial(s.served.url) as raw:
        ours, agents = b"GET /_respool/health HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"
        await raw.send(ours + agents + ours + agents)
        for body in (b'{"status":"ok"}', b"agent", b'{"status":"ok"}', b"agent"):
            assert (await raw.head()).startswith(b"HTTP/1.1 200")
            assert await raw.receive(len(body)) == body


def test_answers_are_not_held_back_for_an_acknowledgement() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()) as client:
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert client
            assert accepted.proto == socket.IPPROTO_TCP


def test_an_address_of_the_newer_protocol_can_be_served_on() -> None:
    with bind("::1", 0) as listener:
        assert listener.family == socket.AF_INET6


def test_an_address_in_use_is_refused() -> None:
    with bind("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", listener.getsockname()[1])


# --- stopping


class Application:
    """An ASGI application that answers in two parts, the second when it is told."""

    def __init__(self) -> None:
        self.begun, self.going_on = asyncio.Event(), asyncio.Event()
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        self.begun.set()
        await self.going_on.wait()
        await send({"type": "http.response.body", "body": b"half", "more_body": False})


async def started(app: Any) -> tuple[Server, str]:
    server, listener = Server(app), bind("127.0.0.1", 0)
    await server.listen(listener)
    return server, f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_server_that_stops_lets_answers_under_way_finish() -> None:
    app = Application()
    server, url = await started(app)
    async with dial(url) as raw, dial(url) as idle:
        await raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await app.begun.wait()
        stopping = asyncio.create_task(server.close(600))
        assert await idle.rest() == b""
        app.going_on.set()
        assert (await raw.rest()).endswith(b"halfhalf")
        await stopping
    with pytest.raises(ConnectionRefusedError):
        async with dial(url):
            pass


async def test_a_server_that_stops_cuts_what_does_not_finish_in_time() -> None:
    app = Application()
    server, url = await started(app)
    async with dial(url) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await app.begun.wait()
        await server.close(0.01)
        assert not (await raw.rest()).endswith(b"halfhalf")


async def test_a_defect_in_the_application_costs_that_connection_alone() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/broken":
            raise RuntimeError("a defect")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    server, url = await started(broken)
    async with dial(url) as one, dial(url) as other:
        await one.send(b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n")
        assert not (await one.rest()).startswith(b"HTTP/1.1 2")
        await other.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await other.head()).startswith(b"HTTP/1.1 204")
    await server.close(0)


@on_both_loops
async def test_an_answer_to_a_client_that_has_left_is_no_fault_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope["state"]["abort"]()
        await let_others_run()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await let_others_run()
        answered.set()

    answered = asyncio.Event()
    server, url = await started(late)
    async with dial(url) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await answered.wait()
    await server.close(1)
    assert caplog.records == []
