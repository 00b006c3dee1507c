"""What is not ours: streamed both ways, untouched."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.proxy.agent import Asked, Wire, answering, silent
from tests.proxy.client import dial, error_of
from tests.proxy.scene import scene
from tests.raw_server import let_the_loop_look
from tests.serving import until

OK = b"HTTP/1.1 200 OK\r\n"
CLOSE = b"connection: close\r\n"


async def raw_exchange(request: bytes, reply: bytes) -> tuple[Asked, bytes]:
    """What the agent was asked and everything that the client got for it."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(reply)

    async with scene(script) as s, dial(s.served.url) as raw:
        await raw.send(request)
        got = await raw.rest()
        return s.agent.asked[0], got


# --- requests


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/readiness"),
        ("GET", "/liveness"),
        ("POST", "/runs"),
        ("POST", "/invocations"),
        ("GET", "/"),
        ("DELETE", "/anything"),
        ("PATCH", "/anything?a=1&a=2"),
        ("OPTIONS", "/responses"),
        ("GET", "/responses"),
        ("HEAD", "/responses"),
        ("PUT", "/responses"),
        ("PUT", "/responses/x"),
        ("POST", "/responses/x"),
        ("OPTIONS", "/responses/x"),
        ("GET", "/responses/x/cancel"),
        ("DELETE", "/responses/x/cancel"),
        ("POST", "/responses/x/input_items"),
        ("GET", "/responses/x/other"),
        ("GET", "/responses/x/input_items/y"),
        ("GET", "/responses/"),
        ("POST", "/responses/"),
        ("POST", "/responses/compact"),
        ("POST", "/responsesx"),
        ("POST", "/v2/responses"),
        ("POST", "//responses"),
        ("POST", "/v1%2Fresponses"),
        ("GET", "/a%2Fb/../c//d;e?x=%2F+%20&y=[]"),
        ("GET", "/openai/v1/models"),
        ("PROPFIND", "/dav"),
    ],
)
async def test_any_other_route_or_method_goes_to_the_agent_as_it_is(method: str, target: str) -> None:
    request = f"{method} {target} HTTP/1.1\r\nhost: respool\r\nconnection: close\r\n\r\n".encode()
    asked, got = await raw_exchange(request, OK + b"content-length: 0\r\n\r\n")
    assert (asked.method, asked.target) == (method, target)
    assert got.startswith(b"HTTP/1.1 200")


async def test_the_path_of_the_agent_comes_before_that_of_the_request() -> None:
    async with scene(answering("200 OK", b""), path="/base/") as s:
        await s.client.get("/v1/models?x=1")
        assert s.agent.asked[0].target == "/base/v1/models?x=1"


async def test_headers_of_the_request_pass_but_for_those_of_the_connection() -> None:
    request = (
        b"GET /readiness HTTP/1.1\r\nHost: respool\r\nX-Twice: 1\r\nX-Other: a\r\nX-Twice: 2\r\n"
        b"Connection: close, X-Hop\r\nX-Hop: h\r\nKeep-Alive: 5\r\n"
        b"TE: trailers\r\nAccept-Encoding: br\r\nX-Raw: \xe9\r\n\r\n"
    )
    asked, _ = await raw_exchange(request, OK + b"content-length: 0\r\n\r\n")
    names = [name.lower() for name, _ in asked.headers]
    assert sorted(names) == ["accept-encoding", "host", "x-other", "x-raw", "x-twice", "x-twice"]
    assert asked.header("x-twice") == ["1", "2"]
    assert asked.header("accept-encoding") == ["br"]
    assert asked.header("x-raw") == ["\xe9"]
    assert asked.header("host")[0].startswith("127.0.0.1:")


@pytest.mark.parametrize("size", [0, 1, 100_000])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_goes_up_with_the_framing_that_it_had(size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 30_000):
            yield body[start : start + 30_000]

    async with scene(answering("200 OK", b"")) as s:
        await s.client.put("/files/x", content=pieces() if chunked else body)
        asked = s.agent.asked[0]
        assert asked.body == body
        assert asked.header("transfer-encoding") == (["chunked"] if chunked else [])
        assert asked.header("content-length") == ([] if chunked else [str(size)])


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
async def test_a_request_without_a_body_gets_none(method: str) -> None:
    async with scene(answering("200 OK", b"")) as s:
        await s.client.request(method, "/readiness")
        asked = s.agent.asked[0]
        assert asked.header("transfer-encoding") == asked.header("content-length") == []


async def test_an_upload_goes_no_faster_than_the_agent_takes_it() -> None:
    size, taking, done = 64 * 2**20, asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request_head()
        await taking.wait()
        for _ in range(size // 2**20):
            assert await wire.receive(2**20) == bytes(2**20)
        await wire.answer("200 OK", b"all of it")
        done.set()

    async with scene(script) as s, dial(s.served.url) as raw:
        await raw.send(b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n" % (size, CLOSE))
        sent = await raw.send_until_stuck(bytes(size))
        assert sent < size // 2
        taking.set()
        await raw.send(bytes(size - sent))
        await done.wait()
        assert (await raw.rest()).endswith(b"all of it")


async def test_a_client_that_waits_for_the_go_ahead_gets_it() -> None:
    async with scene(answering("200 OK", b"ok")) as s, dial(s.served.url) as raw:
        head = b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n"
        await raw.send(head + CLOSE + b"\r\n")
        assert (await raw.head()).startswith(b"HTTP/1.1 100")
        await raw.send(b"hi")
        assert (await raw.head()).startswith(b"HTTP/1.1 200")
        assert s.agent.asked[0].body == b"hi"
        assert s.agent.asked[0].header("expect") == []


async def test_an_agent_may_answer_before_it_has_read_the_whole_body() -> None:
    async def script(wire: Wire) -> None:
        await wire.request_head()
        await wire.answer("413 Content Too Large", b"enough", "connection: close")
        await wire.gone()

    async with scene(script) as s, dial(s.served.url) as raw:
        await raw.send(b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nsome")
        assert (await raw.head()).startswith(b"HTTP/1.1 413")
        assert await raw.receive(6) == b"enough"


async def test_an_early_answer_to_a_large_upload_ends_the_connection() -> None:
    """Nobody takes the rest of the upload, and nothing waits for that for ever."""
    size = 16 * 2**20

    async def script(wire: Wire) -> None:
        await wire.request_head()
        await wire.answer("413 Content Too Large", b"enough", "connection: close")
        await wire.gone()

    async with scene(script) as s, dial(s.served.url) as raw:
        await raw.send(b"POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        await raw.send_until_stuck(bytes(size))
        assert (await raw.rest()).endswith(b"enough")


# --- answers


async def test_an_answer_comes_piece_by_piece() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin(kind="text/event-stream")
        while piece := await pieces.get():
            await wire.chunk(piece)
        await wire.end()

    async with scene(script) as s, s.client.stream("POST", "/runs", json={}) as response:
        raw = response.aiter_raw()
        for piece in (b"data: 1\n\n", b"half an", b" event"):
            await pieces.put(piece)
            assert await anext(raw) == piece
        await pieces.put(b"")
        assert await anext(raw, None) is None


async def test_the_answers_headers_are_the_agents_own_to_the_last() -> None:
    reply = (
        OK
        + b"Content-Type: text/odd; a=b\r\nSet-Cookie: a=1\r\nX-Other: x\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n"
        + b"Connection: X-Hop\r\nX-Hop: h\r\nKeep-Alive: timeout=5\r\nX-Raw: \xe9\r\n\r\nok"
    )
    _, got = await raw_exchange(b"GET /readiness HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n", reply)
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 200")
    assert [line for line in lines[1:] if not line.lower().startswith(b"connection")] == [
        b"content-type: text/odd; a=b",
        b"set-cookie: a=1",
        b"x-other: x",
        b"set-cookie: b=2",
        b"content-length: 2",
        b"x-raw: \xe9",
    ]
    assert body == b"ok"


async def test_the_agents_server_and_date_are_the_only_ones() -> None:
    async with scene(answering("200 OK", b"", "server: agent", "date: then")) as s:
        response = await s.client.get("/readiness")
        assert response.headers.get_list("server") == ["agent"]
        assert response.headers.get_list("date") == ["then"]
    async with scene(answering("200 OK", b"")) as s:
        response = await s.client.get("/readiness")
        assert "server" not in response.headers
        assert "date" not in response.headers


async def test_compressed_answers_stay_as_they_are() -> None:
    packed = gzip.compress(b"hello" * 1000)
    async with scene(answering("200 OK", packed, "content-encoding: gzip")) as s:
        async with s.client.stream("GET", "/file") as response:
            assert response.headers["content-encoding"] == "gzip"
            assert b"".join([piece async for piece in response.aiter_raw()]) == packed
        assert (await s.client.get("/file")).content == b"hello" * 1000


async def test_an_answer_to_head_keeps_its_length_and_has_no_body() -> None:
    reply = OK + b"content-length: 5\r\n\r\n"
    asked, got = await raw_exchange(b"HEAD /file HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n", reply)
    assert asked.method == "HEAD"
    assert b"content-length: 5" in got
    assert got.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_that_has_no_body_by_its_status_has_none(status: str) -> None:
    reply = f"HTTP/1.1 {status}\r\netag: e\r\n\r\n".encode()
    _, got = await raw_exchange(b"GET /file HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n", reply)
    assert got.startswith(b"HTTP/1.1 " + status[:3].encode())
    assert b"etag: e" in got
    assert b"transfer-encoding" not in got
    assert got.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 404, 429, 500, 503])
async def test_redirects_and_errors_are_the_agents_own(status: int) -> None:
    script = answering(f"{status} X", b"words", "location: /elsewhere", "retry-after: 3")
    async with scene(script) as s:
        response = await s.client.get("/x")
        assert (response.status_code, response.content) == (status, b"words")
        assert response.headers["location"] == "/elsewhere"
        assert response.headers["retry-after"] == "3"
        assert "x-request-id" not in response.headers
        assert len(s.agent.asked) == 1


async def test_a_body_that_ends_with_its_connection_comes_through_whole() -> None:
    _, got = await raw_exchange(b"GET /x HTTP/1.1\r\nhost: x\r\n" + CLOSE + b"\r\n", b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert got.startswith(b"HTTP/1.1 200")
    assert b"hello" in got
    assert got.endswith(b"0\r\n\r\n")


async def test_one_connection_serves_many_requests() -> None:
    async with scene(answering("200 OK", b"ok")) as s, dial(s.served.url) as raw:
        for request in (
            b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n",
            b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx",
        ):
            for _ in range(2):
                await raw.send(request)
                assert (await raw.head()).startswith(b"HTTP/1.1 200")
                assert await raw.receive(2) == b"ok"
        assert [asked.target for asked in s.agent.asked] == ["/a", "/a", "/b", "/b"]


async def test_a_client_that_does_not_read_holds_the_agent_back() -> None:
    size, stuck_at = 64 * 2**20, asyncio.get_running_loop().create_future()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"content-length: %d\r\n\r\n" % size)
        sent = await wire.send_until_stuck(bytes(size))
        stuck_at.set_result(sent)
        await wire.send(bytes(size - sent))

    async with scene(script) as s, dial(s.served.url, receive_buffer=4096) as raw:
        await raw.send(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await stuck_at < size // 2
        await raw.head()
        for _ in range(size // 2**20):
            assert len(await raw.receive(2**20)) == 2**20


# --- what breaks


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"content-length: 10\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_torn_answer_is_torn_for_the_client_behind_what_had_arrived(method: bytes, reply: bytes) -> None:
    request = method + b" /x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    _, got = await raw_exchange(request, reply)
    assert b"hello" in got
    assert not got.endswith(b"0\r\n\r\n")


async def test_a_reset_of_the_agent_is_torn_for_the_client() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.chunk(b"hello")
        await let_the_loop_look()
        wire.reset()

    async with scene(script) as s:
        with pytest.raises(httpx.TransportError):
            await s.client.get("/x")


@pytest.mark.parametrize("content", [None, b"body"])
async def test_an_agent_that_cannot_be_reached_is_a_502(content: bytes | None) -> None:
    async with scene(silent, upstream="http://127.0.0.1:1") as s:
        response = await s.client.request("POST" if content else "GET", "/x", content=content)
        assert (response.status_code, error_of(response)["code"]) == (502, "upstream_unreachable")
        assert response.headers["x-platform-error-source"] == "upstream"
        assert "x-should-retry" not in response.headers


@pytest.mark.parametrize("content", [None, b"body"])
async def test_an_agent_that_hangs_up_is_a_502_not_to_be_repeated(content: bytes | None) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()

    async with scene(script) as s:
        response = await s.client.request("POST" if content else "GET", "/x", content=content)
        assert (response.status_code, error_of(response)["code"]) == (502, "upstream_disconnected")
        assert response.headers["x-should-retry"] == "false"
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("content", [None, b"body"])
async def test_an_agent_that_does_not_answer_is_a_504(content: bytes | None) -> None:
    async with scene(silent, header_timeout_seconds=0.05) as s:
        response = await s.client.request("POST" if content else "GET", "/x", content=content)
        assert (response.status_code, error_of(response)["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("body", [b"", b"body"])
async def test_a_client_that_leaves_before_the_answer_closes_the_agents_connection(body: bytes) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        asked.set()
        await wire.gone()
        left.set()

    async with scene(script) as s:
        async with dial(s.served.url) as raw:
            framing = b"content-length: %d\r\n" % len(body) if body else b""
            await raw.send(b"POST /runs HTTP/1.1\r\nhost: x\r\n%b\r\n%b" % (framing, body))
            await asked.wait()
        await left.wait()


@pytest.mark.parametrize("body", [b"", b"body"])
async def test_a_client_that_leaves_in_mid_answer_closes_the_agents_connection(body: bytes) -> None:
    left = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.chunk(b"hello")
        await wire.gone()
        left.set()

    async with scene(script) as s:
        async with dial(s.served.url) as raw:
            framing = b"content-length: %d\r\n" % len(body) if body else b""
            await raw.send(b"POST /runs HTTP/1.1\r\nhost: x\r\n%b\r\n%b" % (framing, body))
            await raw.head()
        await left.wait()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_behind_an_upload_that_nobody_takes_is_noticed(begun: bool) -> None:
    size, asked, left = 16 * 2**20, asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request_head()
        if begun:
            await wire.begin()
            await wire.chunk(b"hello")
        asked.set()
        await left.wait()

    async with scene(script) as s:
        async with dial(s.served.url) as raw:
            await raw.send(b"POST /runs HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            await raw.send_until_stuck(bytes(size))
            await asked.wait()
            if begun:
                await raw.head()
            raw.reset()
            await until(lambda: not s.served.server.connections)
        left.set()


@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
async def test_a_client_that_leaves_in_mid_upload_leaves_a_torn_body_to_the_agent(framing: bytes) -> None:
    got = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request_head()
        asked.set()
        got.set_result(await wire.rest())

    async with scene(script) as s:
        async with dial(s.served.url) as raw:
            await raw.send(b"POST /upload HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n4\r\nsome\r\n")
            await asked.wait()
        assert not (await got).endswith(b"0\r\n\r\n")


# --- upgrades


async def test_a_websocket_is_refused_in_words_and_the_agent_is_not_asked() -> None:
    async with scene(silent) as s, dial(s.served.url) as raw:
        await raw.send(
            b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = await raw.head()
        assert head.startswith(b"HTTP/1.1 426")
        assert b"websocket_unsupported" in await raw.rest()
        assert s.agent.asked == []


async def test_an_upgrade_to_http2_is_answered_as_http11() -> None:
    request = (
        b"GET /readiness HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
        b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    async with scene(answering("200 OK", b"ok")) as s, dial(s.served.url) as raw:
        await raw.send(request)
        assert (await raw.head()).startswith(b"HTTP/1.1 200")
        assert await raw.receive(2) == b"ok"
        assert s.agent.asked[0].header("upgrade") == []
