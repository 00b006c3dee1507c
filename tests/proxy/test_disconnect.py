"""Clients that leave, at every point; clients that read slowly or not at all; and the signs of life in silence."""

import asyncio
from typing import Any

import pytest

from tests.proxy.agent import HELLO, SPEAKING, Held, Wire, answer, closing, completed, delta, opening, saying
from tests.proxy.client import KEEP_ALIVE, dial, events_of, posting, text_of, whole
from tests.proxy.scene import BACKGROUND, Scene, id_from, scene
from tests.proxy.storage import Turnstile
from tests.raw_server import Peer
from tests.serving import until

GIVEN_ID = "caresp_" + "d" * 50
CHOSEN = f"x-agent-response-id: {GIVEN_ID}"
BIG = delta("x" * 60_000)


async def ended(s: Scene, response_id: str = GIVEN_ID) -> dict[str, Any]:
    """The object of a response as soon as it has ended."""
    while True:
        answer_ = await s.client.get(f"/responses/{response_id}")
        if answer_.status_code == 200 and answer_.json()["status"] != "in_progress":
            value: dict[str, Any] = answer_.json()
            return value
        await asyncio.sleep(0)


async def has_seen(raw: Peer, what: bytes) -> bytes:
    """Read until that has come."""
    got = b""
    while what not in got:
        got += await raw.receive(1)
    return got


# --- clients that leave


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", [None, 0, 1, SPEAKING])
@pytest.mark.parametrize("how", ["close", "finish", "reset"])
async def test_a_foreground_run_is_cancelled_when_its_client_leaves(said: int | None, stream: bool, how: str) -> None:
    held = Held(said)
    async with scene(held, accept_grace_ms=600_000) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi", "stream": stream}, CHOSEN))
            await held.reached.wait()
            if stream and said == SPEAKING:
                await has_seen(raw, b"Hel")
            if how != "close":
                getattr(raw, how)()
                await held.left.wait()
        await held.left.wait()
        value = await ended(s)
        assert (value["status"], value["error"], value["background"]) == ("cancelled", None, False)
        if stream and said == SPEAKING:
            assert text_of(value) == "Hel"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", [None, 0, SPEAKING])
async def test_a_run_without_store_is_given_up_when_its_client_leaves(said: int | None, stream: bool) -> None:
    held = Held(said)
    async with scene(held) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"store": False, "stream": stream}, CHOSEN))
            await held.reached.wait()
        await held.left.wait()
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        await until(lambda: s.served.app._private.held == 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", [None, 0, 1, SPEAKING])
async def test_a_background_run_goes_on_when_its_client_leaves(said: int | None, stream: bool) -> None:
    held = Held(said)
    async with scene(held, accept_grace_ms=600_000) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"background": True, "stream": stream}, CHOSEN))
            await held.reached.wait()
        for _ in range(5):
            await s.client.get("/_respool/health")
        assert not held.left.is_set()
        held.going_on.set()
        await held.finished.wait()
        value = await ended(s)
        assert (value["status"], text_of(value)) == ("completed", "Hello")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_behind_the_terminal_event_changes_nothing(stream: bool) -> None:
    held = Held(len(HELLO))
    async with scene(held) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"stream": stream}, CHOSEN))
            await has_seen(raw, b"completed")
        for _ in range(5):
            await s.client.get("/_respool/health")
        assert not held.left.is_set()
        held.going_on.set()
        await held.finished.wait()
        assert (await ended(s))["status"] == "completed"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("how", ["finish", "reset"])
async def test_a_client_that_leaves_while_it_uploads_has_asked_nothing(how: str, chunked: bool) -> None:
    async with scene(saying(*HELLO)) as s, dial(s.served.url) as raw:
        framing = "transfer-encoding: chunked" if chunked else "content-length: 1000"
        begun = b'15\r\n{"background":true,"a\r\n' if chunked else b'{"background":true,"a'
        await raw.send(f"POST /responses HTTP/1.1\r\nhost: x\r\n{CHOSEN}\r\n{framing}\r\n\r\n".encode() + begun)
        await until(lambda: s.served.server.connections == 1)
        getattr(raw, how)()
        await until(lambda: s.served.server.connections == 0)
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        assert s.agent.asked == []


async def test_a_client_that_waits_to_be_told_to_go_on_is_told() -> None:
    async with scene(saying(*HELLO)) as s, dial(s.served.url) as raw:
        body = b'{"input":"hi"}'
        head = f"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
        await raw.send(head.encode())
        assert await raw.head() == b"HTTP/1.1 100 \r\n\r\n"
        await raw.send(body)
        assert (await raw.head()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("background", [False, True])
async def test_a_client_that_leaves_before_it_is_admitted_has_asked_nothing(background: bool) -> None:
    store = Turnstile()
    async with scene(saying(*HELLO), store=store.log) as s:
        first = (await s.create()).json()["id"]
        store.head_gate.clear()
        before = store.heads
        async with dial(s.served.url) as raw:
            body = {"previous_response_id": first, "background": background}
            await raw.send(posting("/responses", body, CHOSEN))
            await until(lambda: store.heads > before)
        await s.client.get("/_respool/health")
        store.head_gate.set()
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("keep_alive", [0, 0.01])
@pytest.mark.parametrize("background", [False, True])
async def test_signs_of_life_do_not_change_what_becomes_of_a_run(background: bool, keep_alive: float) -> None:
    held = Held()
    async with scene(held, keep_alive_seconds=keep_alive) as s:
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"stream": True, "background": background}, CHOSEN))
            await has_seen(raw, KEEP_ALIVE if keep_alive else b"Hel")
        if background:
            await until(lambda: s.served.server.connections == 0)
            assert not held.left.is_set()
            held.going_on.set()
        assert (await ended(s))["status"] == ("completed" if background else "cancelled")


async def test_a_follower_that_leaves_changes_nothing() -> None:
    held = Held()
    async with scene(held) as s, s.stream({"x-agent-response-id": GIVEN_ID}, background=True) as stream:
        await stream.until("response.output_text.delta")
        for _ in range(3):
            async with s.replay(GIVEN_ID) as follower:
                await follower.until("response.output_text.delta")
        held.going_on.set()
        assert (await stream.rest())[-1].name == "response.completed"


async def test_a_body_that_nobody_takes_does_not_hide_that_a_follower_left() -> None:
    held = Held()
    async with scene(held) as s, s.stream({"x-agent-response-id": GIVEN_ID}, background=True) as stream:
        await stream.until("response.output_text.delta")
        head = f"GET /responses/{GIVEN_ID}?stream=true HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        async with dial(s.served.url) as raw:
            await raw.send(head.encode() + b"1\r\nx\r\n" * 50)
            await has_seen(raw, b"Hel")
            await raw.send(b"1\r\nx\r\n" * 50)
            assert s.served.server.connections == 2
        await until(lambda: s.served.server.connections == 1)
        held.going_on.set()
        await stream.rest()


async def test_a_request_pipelined_behind_a_stream_does_not_hide_that_the_client_left() -> None:
    held = Held()
    async with scene(held) as s:
        async with dial(s.served.url) as raw:
            second = b"GET /_respool/health HTTP/1.1\r\nhost: x\r\n\r\n"
            await raw.send(posting("/responses", {"stream": True}, CHOSEN) + second)
            await has_seen(raw, b"Hel")
        await held.left.wait()
        assert (await ended(s))["status"] == "cancelled"


async def test_a_request_pipelined_behind_a_stream_is_answered_after_it() -> None:
    async with scene(saying(*answer("Hello"))) as s, dial(s.served.url) as raw:
        second = b"GET /_respool/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        await raw.send(posting("/responses", {"stream": True}) + second)
        got = await raw.rest()
        assert got.index(b"response.completed") < got.index(b'{"status":"ok"}')


# --- clients that do not read


async def test_a_client_that_reads_nothing_does_not_slow_the_run_nor_another_client() -> None:
    events = [*opening(), *[BIG] * 300, *closing(""), completed("")]
    async with scene(saying(*events)) as s, dial(s.served.url, receive_buffer=4096) as lazy:
        await lazy.send(posting("/responses", {"background": True, "stream": True}, CHOSEN))
        while (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404:
            pass
        seen = await s.events(GIVEN_ID)
        assert whole(seen)["status"] == "completed"
        assert len(seen) == len(events)
        await lazy.head()
        body = await has_all(lazy)
        assert [event.frame for event in events_of(body)] == [event.frame for event in seen]


async def has_all(raw: Peer) -> bytes:
    """A chunked body to its end."""
    parts: list[bytes] = []
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            line += await raw.receive(1)
        size = int(line, 16)
        parts.append(await raw.receive(size))
        await raw.receive(2)
        if not size:
            return b"".join(parts)


async def test_a_client_that_takes_nothing_is_cut_off_in_the_end_and_the_run_goes_on() -> None:
    script = saying(*opening(), *[BIG] * 100, *closing(""), completed(""))
    async with scene(script, write_timeout_seconds=0.2) as s, dial(s.served.url, receive_buffer=4096) as lazy:
        await lazy.send(posting("/responses", {"background": True, "stream": True}, CHOSEN))
        await lazy.head()
        assert (await ended(s))["status"] == "completed"
        # The client cannot see it: the end stands behind what it does not read.
        await until(lambda: s.served.server.connections == 1)
        assert b"response.completed" not in await lazy.rest()
        assert whole(await s.events(GIVEN_ID))["status"] == "completed"


@pytest.mark.parametrize("path", ["/responses/" + GIVEN_ID, "/through"])
async def test_a_client_that_takes_nothing_of_one_large_piece_is_cut_off_too(path: str) -> None:
    script = saying(*opening(), *[BIG] * 100, *closing("x" * 2**22), completed("x" * 2**22))
    async with (
        scene(script, write_timeout_seconds=0.2) as s,
        dial(s.served.url, receive_buffer=4096) as lazy,
    ):
        assert (await s.create({"x-agent-response-id": GIVEN_ID})).status_code == 200
        await lazy.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await lazy.head()
        await until(lambda: s.served.server.connections == 1)


async def test_a_client_that_takes_a_little_now_and_then_is_not_cut_off() -> None:
    script = saying(*opening(), *[BIG] * 50, *closing(""), completed(""))
    async with scene(script, write_timeout_seconds=0.6) as s, dial(s.served.url, receive_buffer=4096) as slow:
        await slow.send(posting("/responses", {"background": True, "stream": True}, CHOSEN))
        await slow.head()
        for _ in range(20):
            # In the whole time of the timeout that is less than a write waits for.
            await slow.take()
            await asyncio.sleep(0.1)
        assert whole(events_of(await has_all(slow)))["status"] == "completed"


async def test_without_store_the_agent_is_read_no_faster_than_the_client_takes_it() -> None:
    total = 32 * 2**20
    stuck_at = asyncio.get_running_loop().create_future()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening())
        one = b'event: response.odd\ndata: {"type":"response.odd","pad":"%b"}\n\n' % (b"x" * 60_000)
        chunk = b"%x\r\n%b\r\n" % (len(one), one)
        data = chunk * (total // len(chunk))
        sent = await wire.send_until_stuck(data)
        stuck_at.set_result(sent)
        await wire.send(data[sent:])
        await wire.say(*closing(""), completed(""))
        await wire.end()

    async with scene(script) as s, dial(s.served.url, receive_buffer=4096) as lazy:
        await lazy.send(posting("/responses", {"store": False, "stream": True}))
        await lazy.head()
        assert await stuck_at < total // 2
        assert whole(events_of(await has_all(lazy)))["status"] == "completed"


async def test_without_store_a_client_that_waits_for_json_does_not_hold_the_agent_back() -> None:
    events = [*opening(), *[BIG] * 100, *closing(""), completed("")]
    async with scene(saying(*events)) as s:
        assert (await s.create(store=False)).json()["status"] == "completed"


# --- signs of life


async def test_comments_are_sent_in_silence_before_and_behind_the_first_event() -> None:
    held = Held(0)
    async with scene(held, keep_alive_seconds=0.01, accept_grace_ms=600_000) as s, s.stream() as stream:
        assert [await stream.block() for _ in range(3)] == [KEEP_ALIVE] * 3
        held.going_on.set()
        assert whole(await stream.rest())["status"] == "completed"
    held = Held()
    async with scene(held, keep_alive_seconds=0.01) as s, s.stream() as stream:
        await stream.until("response.output_text.delta")
        assert [await stream.block() for _ in range(3)] == [KEEP_ALIVE] * 3
        held.going_on.set()
        assert (await stream.rest())[-1].name == "response.completed"


async def test_a_follower_gets_comments_too_but_not_behind_the_end() -> None:
    held = Held()
    async with scene(held, keep_alive_seconds=0.01) as s:
        response_id = await s.created()
        async with s.replay(response_id) as follower:
            await follower.until("response.output_text.delta")
            assert await follower.block() == KEEP_ALIVE
            held.going_on.set()
            await follower.until("response.completed")
            assert await follower.block() is None
        replayed = await s.client.get(f"/responses/{response_id}?stream=true")
        assert KEEP_ALIVE not in replayed.content


async def test_without_an_interval_there_are_no_comments() -> None:
    held = Held()
    async with scene(held, keep_alive_seconds=0) as s, s.stream() as stream:
        await stream.until("response.output_text.delta")
        reading = asyncio.create_task(stream.block())
        for _ in range(5):
            await s.client.get("/_respool/health")
        assert not reading.done()
        held.going_on.set()
        assert (await reading or b"").startswith(b"event: ")
        await stream.rest()


async def test_many_followers_of_one_run_all_get_all_of_it() -> None:
    held = Held(1)
    async with scene(held) as s, s.stream({"x-agent-response-id": GIVEN_ID}, **BACKGROUND) as stream:
        await id_from(stream)
        following = [asyncio.create_task(s.events(GIVEN_ID)) for _ in range(20)]
        await s.client.get("/_respool/health")
        held.going_on.set()
        everything = [await one for one in following]
        assert all(one == everything[0] for one in everything)
        assert whole(everything[0])["status"] == "completed"
