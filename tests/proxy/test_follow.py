"""Replays and live following: cursors, the form of the stream, and the reading loop itself."""

import asyncio
import json
from typing import Any

import pytest

from respool.proxy.follow import SILENCE, follow
from respool.store.base import Chunk, NotFound
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from tests.proxy.agent import Held, Wire, answer, delta, opening, saying
from tests.proxy.client import events_of, text_of, whole
from tests.proxy.scene import BACKGROUND, scene
from tests.store.probe import KEY, chunk, end, head, let_others_run

HELLO = saying(*answer("Hel", "lo"))
LAST = len(answer("Hel", "lo")) - 1


# --- cursors


@pytest.mark.parametrize(
    ("cursor", "first"),
    [
        (None, 0),
        ("-1", 0),
        ("-5", 0),
        (str(-(2**70)), 0),
        ("0", 1),
        ("+3", 4),
        (" 3 ", 4),
        (str(LAST - 1), LAST),
        (str(LAST), None),
        (str(LAST + 1), None),
        (str(2**63), None),
        (str(2**200), None),
    ],
)
async def test_a_replay_begins_behind_the_cursor(cursor: str | None, first: int | None) -> None:
    async with scene(HELLO) as s:
        events = events_of((await s.create(**BACKGROUND)).content)
        response_id = whole(events)["id"]
        query = {"stream": "true"} | ({"starting_after": cursor} if cursor is not None else {})
        response = await s.client.get(f"/responses/{response_id}", params=query)
        assert response.status_code == 200
        assert events_of(response.content) == ([] if first is None else events[first:])


async def test_a_cursor_in_a_running_stream_goes_from_history_to_live_without_a_gap() -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        events = answer(*"abcdefgh")
        await wire.request()
        await wire.begin()
        await wire.say(*events[:6])
        await going_on.wait()
        for event in events[6:]:
            await wire.say(event)
        await wire.end()

    async with scene(script) as s:
        async with s.stream(background=True) as stream:
            response_id = (await stream.until("response.created"))[0].data["response"]["id"]
            await stream.until("response.output_text.delta")
        following = [asyncio.create_task(s.events(response_id, starting_after=str(after))) for after in range(-1, 15)]
        await s.client.get("/_respool/health")
        going_on.set()
        everything = await following[0]
        assert whole(everything)["status"] == "completed"
        for after, one in enumerate(following, -1):
            assert await one == everything[after + 1 :]


async def test_a_cursor_beyond_what_there_is_waits_for_it() -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*answer("x")[:2])
        await going_on.wait()
        await wire.say(*answer("x")[2:])
        await wire.end()

    async with scene(script) as s:
        response_id = await s.created()
        async with s.replay(response_id, starting_after="5") as stream:
            assert stream.response.status_code == 200
            going_on.set()
            assert [event.data["sequence_number"] for event in await stream.rest()] == [6, 7, 8]


# --- the form


@pytest.mark.parametrize("value", ["true", "TRUE", "True", "tRuE"])
async def test_the_text_true_in_any_case_asks_for_the_stream(value: str) -> None:
    async with scene(HELLO) as s:
        response_id = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        response = await s.client.get(f"/responses/{response_id}", params={"stream": value})
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("query", ["%73tream=tr%75e", "a=b&stream=true&stream=false", "a&&stream=true;x&stream=true"])
async def test_a_query_is_decoded_and_the_first_of_a_name_counts(query: str) -> None:
    async with scene(HELLO) as s:
        response_id = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        response = await s.client.get(f"/responses/{response_id}?{query}")
        is_stream = response.headers["content-type"].startswith("text/event-stream")
        assert is_stream == (";" not in query)
        assert (await s.client.get(f"/responses/{response_id}?stream=false&stream=true")).json()["id"] == response_id


async def test_a_delete_is_no_stream_whatever_its_query_says() -> None:
    async with scene(HELLO) as s:
        response_id = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        assert (await s.client.delete(f"/responses/{response_id}?stream=true")).json()["deleted"] is True


@pytest.mark.parametrize("query", ["stream=1", "stream=yes", "stream=", "stream", "stream=false", "stream=%20true", ""])
async def test_anything_else_asks_for_json(query: str) -> None:
    async with scene(HELLO) as s:
        final = whole(events_of((await s.create(**BACKGROUND)).content))
        headers = {"accept": "text/event-stream"}
        response = await s.client.get(f"/responses/{final['id']}?{query}", headers=headers)
        assert response.headers["content-type"] == "application/json"
        assert response.json() == final


async def test_head_is_the_head_of_the_json() -> None:
    async with scene(HELLO) as s:
        response_id = whole(events_of((await s.create(**BACKGROUND)).content))["id"]
        for query in ("", "?stream=true"):
            path = f"/responses/{response_id}"
            got = await s.client.get(path)
            response = await s.client.head(path + query)
            assert (response.status_code, response.content) == (200, b"")
            assert response.headers["content-type"] == "application/json"
            assert response.headers["content-length"] == str(len(got.content))
        assert (await s.client.head(f"/responses/caresp_{'0' * 50}")).status_code == 404
        assert (await s.client.head(f"/responses/{response_id}/input_items")).status_code == 200
        assert len(s.agent.asked) == 1


@pytest.mark.parametrize("asked", ["foreground", "background", "replay", "live"])
async def test_the_headers_of_a_stream_are_these_and_no_others(asked: str) -> None:
    async with scene(Held() if asked == "live" else HELLO) as s:
        if asked in ("foreground", "background"):
            body: dict[str, Any] = {"stream": True, "background": asked == "background"}
            async with s.stream({"x-request-id": "r"}, **body) as stream:
                headers = stream.response.headers
        else:
            response_id = await s.created()
            path = f"/responses/{response_id}?stream=true"
            async with s.client.stream("GET", path, headers={"x-request-id": "r"}) as response:
                headers = response.headers
        assert sorted(headers.multi_items()) == [
            ("cache-control", "no-cache"),
            ("connection", "keep-alive"),
            ("content-type", "text/event-stream; charset=utf-8"),
            ("transfer-encoding", "chunked"),
            ("x-accel-buffering", "no"),
            ("x-request-id", "r"),
        ]


async def test_a_stream_is_frames_and_nothing_else() -> None:
    async with scene(HELLO) as s:
        body = (await s.create(**BACKGROUND)).content
        for number, block in enumerate(body.split(b"\n\n")[:-1]):
            name, data = block.split(b"\n")
            value = json.loads(data.removeprefix(b"data: "))
            assert name == b"event: " + value["type"].encode()
            assert value["sequence_number"] == number
        assert b"[DONE]" not in body
        assert not [line for line in body.splitlines() if line.startswith((b"id:", b"retry:", b":"))]


async def test_a_replay_is_the_live_stream_byte_for_byte() -> None:
    async with scene(HELLO) as s:
        live = (await s.create(**BACKGROUND)).content
        path = f"/responses/{whole(events_of(live))['id']}?stream=true"
        for _ in range(2):
            assert (await s.client.get(path)).content == live


async def test_the_padding_can_be_left_out_of_a_replay() -> None:
    padded = {**delta("Hello"), "obfuscation": "xxxxxx", "logprobs": [1.0]}
    tricky = {**delta('"obfuscation":"mine"'), "obfuscation": "yy"}
    script = saying(*opening(), padded, tricky, *answer("x")[5:])
    async with scene(script) as s:
        live = events_of((await s.create(**BACKGROUND)).content)
        response_id = whole(live)["id"]
        plain = await s.events(response_id, include_obfuscation="false")
        assert [event.data.get("obfuscation") for event in live[4:6]] == ["xxxxxx", "yy"]
        assert [event.data for event in plain] == [
            {key: value for key, value in event.data.items() if key != "obfuscation"} for event in live
        ]
        assert b'"logprobs": [1.0]' in plain[4].frame
        assert plain[5].data["delta"] == '"obfuscation":"mine"'
        for value in ("true", "0", ""):
            assert await s.events(response_id, include_obfuscation=value) == live
        assert await s.events(response_id, **{"include[]": "message.output_text.logprobs"}) == live


async def test_a_poll_in_flight_shows_what_there_is_so_far() -> None:
    steps: asyncio.Queue[str] = asyncio.Queue()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening())
        while text := await steps.get():
            await wire.say(delta(text))
        await wire.say(*answer("abc")[5:])
        await wire.end()

    async with scene(script) as s, s.stream(background=True) as stream:
        response_id = (await stream.until("response.content_part.added"))[0].data["response"]["id"]
        assert text_of(await s.get(response_id)) == ""
        for so_far in ("a", "ab", "abc"):
            await steps.put(so_far[-1])
            await stream.until("response.output_text.delta")
            for _ in range(2):
                value = await s.get(response_id)
                assert (value["status"], text_of(value)) == ("in_progress", so_far)
        await steps.put("")
        final = (await stream.rest())[-1].data["response"]
        assert await s.get(response_id) == final


# --- the loop itself


async def log_with(*events: bytes) -> Log:
    log = Log(MemoryBackend())
    await log.create(head(), b"{}")
    await log.append(KEY, 1, chunk(0, *events))
    return log


def numbers(chunks: Any) -> list[int]:
    return [one.first for one in chunks]


async def test_following_ends_with_the_page_that_ends_the_response() -> None:
    log = await log_with(b"a", b"b")
    await log.append(KEY, 1, chunk(2, b"c"), end=end())
    pages = [page async for page in follow(log, KEY, -1, 0)]
    assert [one.data for page in pages for one in page.chunks] == [b"ab", b"c"]
    assert pages[-1].ended
    assert [page async for page in follow(log, KEY, 2, 0)] == []
    await log.close()


async def test_following_goes_on_where_the_log_does() -> None:
    log = await log_with(b"a")
    pages = follow(log, KEY, 0, 0)
    waiting = asyncio.ensure_future(anext(pages))
    await log.append(KEY, 1, chunk(1, b"b"))
    assert numbers((await waiting).chunks) == [1]
    waiting = asyncio.ensure_future(anext(pages))
    await log.append(KEY, 1, Chunk.of(2, [b"c"], 0), end=end())
    assert (await waiting).ended
    with pytest.raises(StopAsyncIteration):
        await anext(pages)
    await log.close()


async def test_what_comes_live_is_given_without_a_page_as_far_as_it_is_taken() -> None:
    log = await log_with(b"a")
    given: list[int] = []

    def give(one: Chunk, _is_last: bool) -> bool:
        given.append(one.first)
        return one.first != 4

    pages = follow(log, KEY, -1, 0, give=give)
    assert numbers((await anext(pages)).chunks) == [0]
    waiting = asyncio.ensure_future(anext(pages))
    await let_others_run()
    for number in range(1, 5):
        await log.append(KEY, 1, chunk(number, b"x"))
    assert numbers((await waiting).chunks) == [4]
    waiting = asyncio.ensure_future(anext(pages))
    await let_others_run()
    await log.append(KEY, 1, chunk(5, b"x"), end=end())
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert given == [1, 2, 3, 4, 5]
    await log.close()


async def test_a_live_chunk_is_not_given_to_whoever_begins_in_the_middle_of_it() -> None:
    log = await log_with(b"a")
    given: list[int] = []

    def give(one: Chunk, _is_last: bool) -> bool:
        given.append(one.first)
        return True

    pages = follow(log, KEY, 3, 0, give=give)
    waiting = asyncio.ensure_future(anext(pages))
    await let_others_run()
    await log.append(KEY, 1, chunk(1, b"b", b"c"))
    await log.append(KEY, 1, chunk(3, b"d", b"e"))
    assert numbers((await waiting).chunks) == [4]
    waiting = asyncio.ensure_future(anext(pages))
    await let_others_run()
    await log.append(KEY, 1, chunk(5, b"f"), end=end())
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert given == [5]
    await log.close()


async def test_a_page_of_several_chunks_is_followed_by_the_next_event() -> None:
    log = await log_with(b"a")
    await log.append(KEY, 1, chunk(1, b"b", b"c"))
    pages = follow(log, KEY, -1, 0)
    assert numbers((await anext(pages)).chunks) == [0, 1]
    await log.append(KEY, 1, chunk(3, b"d"), end=end())
    assert [numbers(page.chunks) async for page in pages] == [[3]]
    await log.close()


async def test_silence_is_told_again_and_again_and_loses_nothing() -> None:
    log = await log_with(b"a")
    pages = follow(log, KEY, 0, 0.001)
    assert [await anext(pages) for _ in range(3)] == [SILENCE] * 3
    await log.append(KEY, 1, chunk(1, b"b"), end=end())
    seen = [page async for page in pages if page is not SILENCE]
    assert numbers(seen[0].chunks) == [1]
    await log.close()


async def test_following_what_is_deleted_meanwhile_fails() -> None:
    log = await log_with(b"a")
    pages = follow(log, KEY, 0, 0)
    waiting = asyncio.ensure_future(anext(pages))
    await asyncio.sleep(0)
    await log.withdraw(KEY, 1)
    with pytest.raises(NotFound):
        await waiting
    await log.close()
