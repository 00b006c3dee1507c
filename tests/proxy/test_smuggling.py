"""Requests that could be taken for two, or for another's: the agent never sees one, and what it sees is well-framed."""

from collections.abc import Iterator
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from respool.proxy.strict import make_strict
from tests.proxy.agent import Wire, answer, answering, saying
from tests.proxy.client import dial
from tests.proxy.scene import scene

HOST = b"host: respool\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LENGTH = b"content-length: 5\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
BEHIND = b"GET /behind HTTP/1.1\r\nhost: respool\r\nconnection: close\r\n\r\n"


def head(*lines: bytes, method: bytes = b"POST", path: bytes = b"PATH", version: bytes = b"HTTP/1.1") -> bytes:
    """A request without its body; PATH stands for the route under attack."""
    return b"%b %b %b\r\n%b%b\r\n" % (method, path, version, HOST, b"".join(lines))


REFUSED = {
    # Two framings, or one that is none.
    "length and chunks": head(LENGTH, CHUNKED) + b"0\r\n\r\n",
    "chunks and length": head(CHUNKED, LENGTH) + b"0\r\n\r\n",
    "length zero and chunks": head(b"content-length: 0\r\n", CHUNKED) + HELLO,
    "chunked twice": head(CHUNKED, CHUNKED) + HELLO,
    "chunked, chunked": head(b"transfer-encoding: chunked, chunked\r\n") + HELLO,
    "chunked, identity": head(b"transfer-encoding: chunked, identity\r\n") + HELLO,
    "identity, chunked": head(b"transfer-encoding: identity, chunked\r\n") + HELLO,
    "chunked and identity": head(CHUNKED, b"transfer-encoding: identity\r\n") + HELLO,
    "identity and chunked": head(b"transfer-encoding: identity\r\n", CHUNKED) + HELLO,
    "identity": head(b"transfer-encoding: identity\r\n") + HELLO,
    "gzip, chunked": head(b"transfer-encoding: gzip, chunked\r\n") + HELLO,
    "xchunked": head(b"transfer-encoding: xchunked\r\n") + HELLO,
    "chunkedx": head(b"transfer-encoding: chunkedx\r\n") + HELLO,
    "x chunked": head(b"transfer-encoding: x chunked\r\n") + HELLO,
    "quoted": head(b'transfer-encoding: "chunked"\r\n') + HELLO,
    "with a parameter": head(b"transfer-encoding: chunked;q=1\r\n") + HELLO,
    "comma before": head(b"transfer-encoding: ,chunked\r\n") + HELLO,
    "comma behind": head(b"transfer-encoding: chunked,\r\n") + HELLO,
    "no coding": head(b"transfer-encoding:\r\n") + HELLO,
    "vertical tab before": head(b"transfer-encoding: \x0bchunked\r\n") + HELLO,
    "form feed behind": head(b"transfer-encoding: chunked\x0c\r\n") + HELLO,
    "nul behind": head(b"transfer-encoding: chunked\x00\r\n") + HELLO,
    "no-break space before": head(b"transfer-encoding: \xa0chunked\r\n") + HELLO,
    "space before the colon": head(b"transfer-encoding : chunked\r\n") + HELLO,
    "tab before the colon": head(b"transfer-encoding\t: chunked\r\n") + HELLO,
    "folded": head(b"transfer-encoding:\r\n chunked\r\n") + HELLO,
    "hidden in a fold": head(b"x: y\r\n transfer-encoding: chunked\r\n", LENGTH) + b"hello",
    "hidden behind a carriage return": head(b"x: y\rtransfer-encoding: chunked\r\n", LENGTH) + b"hello",
    "hidden behind a line feed": head(b"x: y\ntransfer-encoding: chunked\r\n", LENGTH) + b"hello",
    "chunks in HTTP/1.0": head(CHUNKED, version=b"HTTP/1.0") + HELLO,
    "two lengths": head(LENGTH, b"content-length: 6\r\n") + b"hello",
    "a list of lengths": head(b"content-length: 5, 6\r\n") + b"hello",
    "plus": head(b"content-length: +5\r\n") + b"hello",
    "minus": head(b"content-length: -5\r\n") + b"hello",
    "hexadecimal": head(b"content-length: 0x5\r\n") + b"hello",
    "underscore": head(b"content-length: 0_5\r\n") + b"hello",
    "two numbers": head(b"content-length: 0 5\r\n") + b"hello",
    "a fraction": head(b"content-length: 5.0\r\n") + b"hello",
    "no length": head(b"content-length:\r\n") + b"hello",
    "digits of another script": head("content-length: ٥\r\n".encode()) + b"hello",
    "a superscript": head(b"content-length: \xb2\r\n") + b"hello",
    "a length with a parameter": head(b"content-length: 5;x\r\n") + b"hello",
    "more than 64 bits": head(b"content-length: 18446744073709551621\r\n") + b"hello",
    "5,000 digits": head(b"content-length: " + b"9" * 5_000 + b"\r\n") + b"hello",
    # Lines.
    "line feeds alone": b"GET PATH HTTP/1.1\nhost: respool\n\n",
    "a line feed in the head": b"GET PATH HTTP/1.1\nhost: respool\r\n\r\n",
    "a last line feed": b"GET PATH HTTP/1.1\r\nhost: respool\r\n\n",
    "carriage returns alone": b"GET PATH HTTP/1.1\rhost: respool\r\r\n\r\n",
    "a folded line": head(b"x: y\r\n z\r\n"),
    "a line folded with a tab": head(b"x: y\r\n\tz\r\n"),
    "a fold at the start": b"GET PATH HTTP/1.1\r\n host: respool\r\n\r\n",
    "no colon": head(b"nothing\r\n"),
    "no name": head(b": x\r\n"),
    "a space in a name": head(b"a b: x\r\n"),
    "a letter that is not ASCII in a name": head(b"\xe9: x\r\n"),
    "nul in a value": head(b"x: a\x00b\r\n"),
    "a control character in a value": head(b"x: a\x1bb\r\n"),
    "delete in a value": head(b"x: a\x7fb\r\n"),
    "no host": b"GET PATH HTTP/1.1\r\n\r\n",
    "two hosts": b"GET PATH HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "a host with a path": b"GET PATH HTTP/1.1\r\nhost: a/b\r\n\r\n",
    "a host with a user": b"GET PATH HTTP/1.1\r\nhost: u@a\r\n\r\n",
    # The first line.
    "HTTP/0.9": b"GET PATH\r\n",
    "version 0.9": head(version=b"HTTP/0.9"),
    "version 1.2": head(version=b"HTTP/1.2"),
    "version 2.0": head(version=b"HTTP/2.0"),
    "version 1.10": head(version=b"HTTP/1.10"),
    "version in small letters": head(version=b"http/1.1"),
    "no protocol": head(version=b"HTP/1.1"),
    "something behind the version": head(version=b"HTTP/1.1 x"),
    "two spaces": b"GET  PATH HTTP/1.1\r\nhost: respool\r\n\r\n",
    "tabs": b"GET\tPATH\tHTTP/1.1\r\nhost: respool\r\n\r\n",
    "a space in front": b" GET PATH HTTP/1.1\r\nhost: respool\r\n\r\n",
    "a space in the path": b"GET PATH x HTTP/1.1\r\nhost: respool\r\n\r\n",
    "no method": head(method=b"G(T"),
    "nul in the method": head(method=b"G\x00T"),
    "nul in the path": head(path=b"PATH\x00"),
    "a control character in the path": head(path=b"PATH\x1b"),
    "bytes in the path": head(path=b"PATH/\xc3\xa9"),
    "a fragment": head(path=b"PATH#x"),
    "a fragment in the query": head(path=b"PATH?a#x"),
    "another host": head(path=b"http://elsewherePATH", method=b"GET"),
    "this host": head(path=b"http://respoolPATH", method=b"GET"),
    "no path": head(path=b"?x", method=b"GET"),
    "only a star": head(path=b"*", method=b"OPTIONS"),
    "only a name": head(path=b"elsewhere:443", method=b"GET"),
    "a tunnel": b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere:443\r\n\r\n",
    "a tunnel to a path": head(method=b"CONNECT"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS": b"\x16\x03\x01\x00\x60\x01\x00\x00\x5c\x03\x03" + bytes(80) + b"\r\n\r\n",
    "nonsense": b"nonsense\r\n\r\n",
    "a WebSocket without its key": head(b"connection: upgrade\r\nupgrade: websocket\r\n", method=b"GET"),
}
TORN = {
    "a negative chunk": b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk in C": b"0x5\r\nhello\r\n0\r\n\r\n",
    "an underscore in a size": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a space before a size": b" 5\r\nhello\r\n0\r\n\r\n",
    "a space behind a size": b"5 \r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "no hexadecimal size": b"g\r\nhello\r\n0\r\n\r\n",
    "a size of 16 digits": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size with many zeros": b"00000000000000000005\r\nhello\r\n0\r\n\r\n",
    "a size without end": b"0" * 100_000,
    "a line feed behind the size": b"5\nhello\r\n0\r\n\r\n",
    "a line feed in an extension": b"5;x\n\r\nhello\r\n0\r\n\r\n",
    "a carriage return in an extension": b"5;x\ry\r\nhello\r\n0\r\n\r\n",
    "nul in an extension": b"5;x=\x00\r\nhello\r\n0\r\n\r\n",
    "an extension without end": b"5;" + b"x" * 100_000,
    "a line feed behind the data": b"5\r\nhello\n0\r\n\r\n",
    "more data than said": b"5\r\nhello!\r\n0\r\n\r\n",
    "less data than said": b"6\r\nhello\r\n0\r\n\r\n",
    "line feeds alone": b"5\nhello\n0\n\n",
    "a last line feed": b"5\r\nhello\r\n0\r\n\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n",
    "a malformed trailer": b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    "trailers without end": b"5\r\nhello\r\n0\r\nx: " + b"y" * 200_000,
}
TAKEN = {
    "chunks": head(CHUNKED) + HELLO,
    "chunks in capitals": head(b"Transfer-Encoding: CHUNKED\r\n") + HELLO,
    "a tab before the coding": head(b"transfer-encoding:\tchunked\t\r\n") + HELLO,
    "small chunks": head(CHUNKED) + b"1\r\nh\r\n0004\r\nello\r\n000\r\n\r\n",
    "extensions": head(CHUNKED) + b'5;x;y=z ; q="a;b"\r\nhello\r\n0;last\r\n\r\n',
    "trailers": head(CHUNKED) + b"5\r\nhello\r\n0\r\ncontent-length: 9\r\nx-agent-user-id: eve\r\nhost: evil\r\n\r\n",
    "a length": head(LENGTH) + b"hello",
    "a length with zeros": head(b"content-length: 0005\r\n") + b"hello",
    "the same length twice": head(LENGTH, LENGTH) + b"hello",
    "the same length in a list": head(b"content-length: 5, 5\r\n") + b"hello",
    "a length named hop by hop": head(b"connection: content-length, host\r\n", LENGTH) + b"hello",
    "chunks named hop by hop": head(b"connection: transfer-encoding\r\n", CHUNKED) + HELLO,
    "an upgrade to HTTP/2": head(b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n", LENGTH) + b"hello",
    "an upgrade to something": head(b"connection: upgrade\r\nupgrade: x/1\r\n", LENGTH) + b"hello",
    "a length in another header": head(b"x: content-length: 9\r\ncontent_length: 9\r\n", LENGTH) + b"hello",
}


def attack(request: bytes, path: bytes) -> bytes:
    return request.replace(b"PATH", path) + BEHIND


@pytest.mark.parametrize("path", [b"/runs", b"/responses", b"/_respool/health"])
@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_can_be_read_in_two_ways_is_refused(name: str, path: bytes) -> None:
    async with scene(answering("200 OK", b"")) as s, dial(s.served.url) as raw:
        await raw.send(attack(REFUSED[name], path))
        got = await raw.rest()
        assert got[9:12] in (b"400", b"426", b"501", b"505")
        assert got.count(b"HTTP/1.1 ") == 1
        assert s.agent.asked == []


class Eavesdropper:
    """An agent that keeps what comes on each connection as bytes, and answers whatever looks whole."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def __call__(self, wire: Wire) -> None:
        self.heard.append(b"")
        mine = len(self.heard) - 1
        while data := await wire.some():
            self.heard[mine] += data
            if self.heard[mine].endswith((b"0\r\n\r\n", b"hello")) or b"GET /behind" in self.heard[mine]:
                await wire.answer("200 OK", b"")


@pytest.mark.parametrize("name", TORN)
async def test_a_body_that_is_malformed_never_looks_whole_to_the_agent(name: str) -> None:
    agent = Eavesdropper()
    async with scene(agent) as s, dial(s.served.url) as raw:
        await raw.send(attack(head(CHUNKED) + TORN[name], b"/runs"))
        got = await raw.rest()
        assert not got.startswith(b"HTTP/1.1 2")
        assert got.count(b"HTTP/1.1 ") <= 1
    for heard in agent.heard:
        assert heard.startswith(b"POST /runs HTTP/1.1\r\n")
        assert not heard.endswith(b"0\r\n\r\n")
        assert b"behind" not in heard


@pytest.mark.parametrize("name", TORN)
async def test_a_create_whose_body_is_malformed_does_not_reach_the_agent(name: str) -> None:
    async with scene(answering("200 OK", b"")) as s, dial(s.served.url) as raw:
        await raw.send(attack(head(CHUNKED) + TORN[name], b"/responses"))
        assert not (await raw.rest()).startswith(b"HTTP/1.1 2")
        assert s.agent.asked == []


@pytest.mark.parametrize("name", TAKEN)
async def test_what_is_clear_arrives_as_one_request_in_one_framing(name: str) -> None:
    async with scene(answering("200 OK", b"")) as s, dial(s.served.url) as raw:
        await raw.send(attack(TAKEN[name], b"/runs"))
        assert (await raw.rest()).count(b"HTTP/1.1 200") == 2
        first, second = s.agent.asked
        assert (first.method, first.target, first.body) == ("POST", "/runs", b"hello")
        assert (second.method, second.target, second.body) == ("GET", "/behind", b"")
        assert len(first.header("content-length")) + len(first.header("transfer-encoding")) == 1
        assert len(first.header("host")) == 1
        assert first.header("host")[0].startswith("127.0.0.1:")
        assert not first.header("connection")
        assert not first.header("upgrade")
        assert not first.header("x-agent-user-id")


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_create_that_carries_a_request_in_its_body_is_one_request(framing: str) -> None:
    body = b'{"input": "0\\r\\n\\r\\n' + BEHIND.replace(b"\r\n", b"\\r\\n") + b'"}'
    request = (
        head(b"content-length: %d\r\n" % len(body), path=b"/responses") + body
        if framing == "length"
        else head(CHUNKED, path=b"/responses") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )
    async with scene(saying(*answer("x")), answering("200 OK", b"")) as s, dial(s.served.url) as raw:
        await raw.send(request + BEHIND)
        assert (await raw.rest()).count(b"HTTP/1.1 200") == 2
        assert [asked.target for asked in s.agent.asked] == ["/responses", "/behind"]
        assert s.agent.asked[0].header("content-length") == [str(len(s.agent.asked[0].body))]
        assert s.agent.asked[0].header("transfer-encoding") == []


async def test_a_websocket_hides_no_request_behind_it() -> None:
    upgrade = (
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    async with scene(answering("200 OK", b"")) as s, dial(s.served.url) as raw:
        await raw.send(attack(head(upgrade, method=b"GET"), b"/runs"))
        assert not (await raw.rest()).startswith(b"HTTP/1.1 101")
        assert s.agent.asked == []


@pytest.mark.parametrize("path", [b"/runs", b"/responses"])
@pytest.mark.parametrize("what", [b"x: " + b"y" * 2**20, b"x: y\r\n" * 200_000, b"y" * 2**20])
async def test_a_head_without_end_is_refused_and_not_kept(path: bytes, what: bytes) -> None:
    async with scene(answering("200 OK", b"")) as s, dial(s.served.url) as raw:
        start = b"GET %b" % path if what.startswith(b"y") else b"GET %b HTTP/1.1\r\nhost: x\r\n" % path
        sent = await raw.send_until_stuck(start + what)
        assert sent < len(start + what) or (await raw.rest())[9:10] in (b"4", b"")
        assert s.agent.asked == []


# --- what h11 is made to see


def verdict(pieces: list[bytes]) -> list[str]:
    """The events of a connection, the pieces of a body joined; the last may be that it is refused."""
    connection = h11.Connection(h11.SERVER)
    make_strict(connection)
    return list(_events(connection, pieces))


def _events(connection: h11.Connection, pieces: list[bytes]) -> Iterator[str]:
    body = b""
    for piece in pieces:
        connection.receive_data(piece)
        try:
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Data):
                    body += event.data
                else:
                    yield f"{event} {body!r}"
        except h11.RemoteProtocolError as error:
            yield f"refused {error.error_status_hint}"
            return


@given(
    st.sampled_from([*REFUSED.values(), *TAKEN.values(), *(head(CHUNKED) + body for body in TORN.values())]),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_the_verdict_does_not_depend_on_the_cuts(request: bytes, places: list[int]) -> None:
    cuts = [0, *sorted(min(place, len(request)) for place in places), len(request)]
    pieces = [request[start:end] for start, end in pairwise(cuts) if start < end]
    assert verdict(pieces) == verdict([request])


@pytest.mark.parametrize("name", [*REFUSED, *TAKEN])
def test_the_verdict_is_the_same_byte_by_byte(name: str) -> None:
    request = REFUSED.get(name) or TAKEN[name]
    assert verdict([request[at : at + 1] for at in range(len(request))]) == verdict([request])
