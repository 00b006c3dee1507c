"""What is not ours is to the byte what the agent said; what is ours keeps the text of what need not change."""

import gzip
import json

import pytest

from tests.proxy.agent import Wire, frame, lifecycle
from tests.proxy.client import dial, events_of
from tests.proxy.scene import scene

ODD = b'{ "z":1.50,"a" :1e5, "big":123456789012345678901, "neg":-0.0,"z":2,"\\u0061":"\\u00e9\\/\xc3\xa9", "n":null }'
STREAM = (
    b"id: 7\r\nevent: agent.special\r\nretry: 5\r\ndata:" + ODD + b"\r\n\r\n: comment\n\ndata: [DONE]\n\n\xff\x00tail"
)
BODIES = {
    "events": (b"text/event-stream", b"", STREAM),
    "JSON": (b"application/json", b"", ODD),
    "gzip": (b"application/json", b"content-encoding: gzip\r\n", gzip.compress(ODD, mtime=0)),
    "not gzip": (b"text/plain", b"content-encoding: gzip\r\n", b"not packed at all"),
    "bytes": (b"application/octet-stream", b'etag: W/"x"\r\nx-odd: \xe9\ta  b\r\n', bytes(range(256)) * 300),
    "nothing": (b"text/html; charset=latin-1", b"set-cookie: a=1\r\nset-cookie: b=2; Path=/\r\n", b""),
}


@pytest.mark.parametrize("status", [b"200 OK", b"206 Partial Content", b"404 Not Found", b"500 Broken", b"599 Odd"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("name", BODIES)
async def test_what_passes_through_is_what_the_agent_says_directly(name: str, framing: str, status: bytes) -> None:
    kind, extra, body = BODIES[name]
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\n%b" % (status, kind, extra)
    if framing == "length":
        answer = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    else:
        chunks = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        answer = head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer)

    got = []
    async with scene(script) as s:
        for url in (s.agent.url, s.served.url):
            async with dial(url) as raw:
                await raw.send(
                    b"POST /runs?q=%2F HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
                )
                got.append(parts(await raw.rest()))
    direct, proxied = got
    assert proxied == direct
    assert proxied[2] == body


def parts(answer: bytes) -> tuple[bytes, list[bytes], bytes]:
    """The status, the headers in order but for the connection's, and the body without its framing."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    if b"transfer-encoding: chunked" in map(bytes.lower, lines):
        body = unchunked(body)
    return (
        first.split(b" ")[1],
        [line for line in lines if not line.lower().startswith((b"connection", b"transfer-"))],
        body,
    )


def unchunked(data: bytes) -> bytes:
    body = b""
    while data != b"0\r\n\r\n":
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


async def test_an_unknown_event_keeps_its_text_but_for_its_number() -> None:
    event = (
        b'{ "type" :"agent.special","z":1.50,"a" :1e5,"big":123456789012345678901,"neg":-0.0,"s":"\\u00e9\\/\xc3\xa9" }'
    )

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.chunk(frame(lifecycle("created")) + b"event: agent.special\ndata: " + event + b"\n\n")
        await wire.say(lifecycle("completed"))
        await wire.end()

    async with scene(script) as s:
        response = await s.create(stream=True)
        (told,) = [event for event in events_of(response.content) if event.name == "agent.special"]
        assert event.rstrip(b" }") in told.frame
        assert told.data == {**json.loads(event), "sequence_number": 2}
