"""Agents that compress their answer although respool asks them not to: it is read all the same, or refused in words."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.proxy.agent import Json, Wire, answer, answering, completed, delta, frame, message, opening
from tests.proxy.client import deltas, error_of, text_of, whole
from tests.proxy.endings import BROKEN, outcome
from tests.proxy.scene import BACKGROUND, id_from, scene

TOO_LARGE = "event_too_large"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    """gzip in three parts, which is one body."""
    half = len(data) // 2
    return b"".join(map(gzip.compress, (data[:half], data[half:], b"")))


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZIP", gzip.compress),
    ("gzip", members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("identity", bytes),
]
NAMES = ["gzip", "x-gzip", "members", "zlib", "raw deflate", "identity"]


def streaming(coding: str, body: bytes, size: int = 2**20, *, ends: bool = True) -> Any:
    """A script: a stream with that coding, in chunks of `size` bytes."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin(f"content-encoding: {coding}")
        for at in range(0, len(body), size):
            await wire.chunk(body[at : at + size])
        if ends:
            await wire.end()

    return script


def body_of(*events: Json) -> bytes:
    return b"".join(map(frame, events))


@pytest.mark.parametrize(("coding", "pack"), CODINGS, ids=NAMES)
@pytest.mark.parametrize("size", [1, 7, 2**20])
async def test_a_compressed_stream_is_read_as_any_other(coding: str, pack: Callable[[bytes], bytes], size: int) -> None:
    words = [str(number) * 20 for number in range(10)]
    events, final = await outcome(streaming(coding, pack(body_of(*answer(*words))), size))
    assert (final["status"], text_of(final)) == ("completed", "".join(words))
    assert deltas(events) == words


async def test_an_event_of_a_compressed_stream_leaves_as_soon_as_the_agent_flushes_it() -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        packer = zlib.compressobj(wbits=31)
        await wire.request()
        await wire.begin("content-encoding: gzip")
        await wire.chunk(packer.compress(body_of(*opening(), delta("Hel"))) + packer.flush(zlib.Z_SYNC_FLUSH))
        await going_on.wait()
        await wire.chunk(packer.compress(body_of(completed("Hel"))) + packer.flush())
        await wire.end()

    async with scene(script) as s, s.stream() as stream:
        events = await stream.until("response.output_text.delta")
        going_on.set()
        assert whole(events + await stream.rest())["status"] == "completed"


@pytest.mark.parametrize(("coding", "pack"), CODINGS[:-1], ids=NAMES[:-1])
async def test_a_compressed_stream_that_is_cut_short_is_a_broken_transfer(
    coding: str, pack: Callable[[bytes], bytes]
) -> None:
    """All items are closed and the transfer ends by its framing: without the coding's own end it is not whole."""
    so_far = body_of(*answer("Hello")[:-1])
    _, final = await outcome(streaming(coding, pack(so_far)))
    assert final["status"] == "completed"
    _, final = await outcome(streaming(coding, pack(so_far)[:-1]))
    assert (final["status"], final["error"], text_of(final)) == ("failed", BROKEN, "Hello")


async def test_what_comes_before_a_fault_in_the_coding_is_kept() -> None:
    packed = bytearray(gzip.compress(body_of(*answer("Hello")[:-1])))
    packed[-5] ^= 1
    events, final = await outcome(streaming("gzip", bytes(packed)))
    assert (final["status"], final["error"]) == ("failed", BROKEN)
    assert deltas(events) == ["Hello"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_stream_that_is_not_what_its_coding_says_is_an_error(coding: str) -> None:
    async with scene(streaming(coding, body_of(*answer("Hello"))), accept_grace_ms=600_000) as s:
        response = await s.create()
        assert (response.status_code, error_of(response)["code"]) == (500, "upstream_disconnected")


async def test_once_the_terminal_event_was_read_the_rest_of_the_coding_decides_nothing() -> None:
    _, final = await outcome(streaming("gzip", gzip.compress(body_of(*answer("Hello")))[:-4]))
    assert final["status"] == "completed"


@pytest.mark.parametrize(("coding", "pack"), CODINGS, ids=NAMES)
async def test_a_compressed_json_answer_is_an_answer(coding: str, pack: Callable[[bytes], bytes]) -> None:
    body = json.dumps({"object": "response", "status": "completed", "output": [message("Hello")]}).encode()
    _, final = await outcome(answering("200 OK", pack(body), f"content-encoding: {coding}"))
    assert (final["status"], text_of(final)) == ("completed", "Hello")


async def test_an_event_that_is_small_only_while_it_is_compressed_is_too_large() -> None:
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(body_of(*opening(), delta("Hel")) + b"data: ")
    for _ in range(64):
        body += packer.compress(b"x" * 2**20)
    assert len(body) < 100_000
    events, final = await outcome(streaming("gzip", body, ends=False), max_event_bytes=2**20)
    assert (final["status"], final["error"]["code"], text_of(final)) == ("failed", TOO_LARGE, "Hel")
    assert deltas(events) == ["Hel"]


async def test_a_json_answer_that_is_small_only_while_it_is_compressed_is_too_large() -> None:
    body = gzip.compress(b" " * 2**26)
    async with scene(answering("200 OK", body, "content-encoding: gzip"), max_object_bytes=2**20) as s:
        assert error_of(await s.create())["code"] == TOO_LARGE


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip, br"])
async def test_a_coding_that_is_not_known_is_named(coding: str) -> None:
    words = f"The agent answered with the content coding {coding}, which nobody asked for."
    script = streaming(coding, b"\x8b\x00")
    async with scene(script, accept_grace_ms=600_000) as s:
        for asked in ({}, {"stream": True}, BACKGROUND):
            response = await s.create(**asked)
            error = error_of(response)
            assert (response.status_code, error["code"], error["message"]) == (500, "server_error", words)


async def test_after_the_grace_an_unknown_coding_is_a_stored_failure() -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await going_on.wait()
        await wire.begin("content-encoding: br")
        await wire.gone()

    async with scene(script, accept_grace_ms=1) as s, s.stream(background=True) as stream:
        response_id = await id_from(stream)
        going_on.set()
        await stream.rest()
        final = whole(await s.events(response_id))
        assert (final["status"], final["error"]["code"]) == ("failed", "server_error")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_a_compressed_refusal_passes_as_it_is(pack: Callable[[bytes], bytes]) -> None:
    coding = "gzip" if pack is gzip.compress else "deflate"
    said = {"error": {"code": "slow_down", "message": "later"}}
    script = answering("429 Too Many", pack(json.dumps(said).encode()), f"content-encoding: {coding}")
    async with scene(script) as s:
        response = await s.create()
        assert (response.status_code, response.headers["content-encoding"]) == (429, coding)
        assert response.json() == said


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", gzip.compress(b'{"error":{"code":"slow_down","message":"later"}}'), "later"),
        ("gzip", b"no gzip", "The agent answered with status 429."),
        ("br", b"\x8b", "The agent answered with status 429."),
    ],
)
async def test_the_words_of_a_compressed_refusal_are_those_of_the_stored_failure(
    coding: str, body: bytes, words: str
) -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await going_on.wait()
        await wire.answer("429 Too Many", body, f"content-encoding: {coding}")

    async with scene(script, accept_grace_ms=1) as s, s.stream(background=True) as stream:
        await id_from(stream)
        going_on.set()
        assert (await stream.rest())[-1].data["response"]["error"]["message"] == words
