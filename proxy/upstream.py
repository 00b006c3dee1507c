"""The agent's side: which headers pass on, how long to wait, and its failures in our words."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import cast
from urllib.parse import urlsplit

import httpx

from respool.proxy.protocol import errors
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.failure import Failure
from respool.proxy.settings import Settings
from respool.proxy.transport import Exchange, Transport
from respool.proxy.unpacking import Unpacked, coding_of

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5

RawHeaders = Sequence[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1, and `expect`, which respool answers itself.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


def end_to_end(headers: Iterable[tuple[bytes, bytes]], drop: Iterable[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """The headers that a proxy passes on, in order, duplicates apart, without those in `drop` (lower case)."""
    headers = list(headers)
    dropped = _HOP_BY_HOP | hop_by_hop(headers) | set(drop)
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def hop_by_hop(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """What a request or an answer itself names as headers of its connection, in lower case."""
    return {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }


class Upstream:
    """The agent. One connection for each call; nothing is shared between two users, nothing is ever sent twice."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport or Transport()
        self._url = httpx.URL(settings.upstream)
        self._path = urlsplit(settings.upstream).path.encode()
        self._host = self._url.netloc
        self._start_wait = settings.start_wait
        self._timeout = {
            "connect": settings.connect_timeout_seconds,
            "headers": settings.header_timeout_seconds,
            "read": settings.idle_timeout_seconds,
            "write": settings.idle_timeout_seconds,
        }

    async def create(self, body: bytes, headers: RawHeaders, query: bytes) -> httpx.Response:
        """POST a create. Raises httpx.TransportError; see `refusal` and `failure`.

        An agent that is still starting is waited for: as long as nobody takes the connection, nothing has been sent.
        """
        dropped = (b"host", b"content-length", b"accept-encoding")
        sent = [
            (b"host", self._host),
            *end_to_end(headers, dropped),
            (b"accept-encoding", b"identity"),
            (b"content-length", b"%d" % len(body)),
        ]
        target = self._path + b"/responses" + (b"?" + query if query else b"")
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + self._start_wait, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._send("POST", target, sent, httpx.ByteStream(body))
            except httpx.ConnectError:
                if loop.time() + pause > give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def forward(
        self, method: str, target: bytes, headers: RawHeaders, body: AsyncIterator[bytes] | None
    ) -> httpx.Response:
        """Send anything else on as it came; `target` is the raw path with its query. Raises httpx.TransportError."""
        sent = [(b"host", self._host), *end_to_end(headers, (b"host",))]
        if body is not None and not any(name.lower() == b"content-length" for name, _ in sent):
            sent.append((b"transfer-encoding", b"chunked"))
        stream = _Upload(body) if body is not None else httpx.ByteStream(b"")
        return await self._send(method, self._path + target, sent, stream)

    async def _send(
        self, method: str, target: bytes, headers: RawHeaders, stream: httpx.AsyncByteStream
    ) -> httpx.Response:
        extensions = {"target": target, "timeout": self._timeout}
        request = httpx.Request(method, self._url, headers=headers, stream=stream, extensions=extensions)
        return await self._transport.handle_async_request(request)

    async def close(self) -> None:
        """Close every connection that is still open."""
        await self._transport.aclose()


class _Upload(httpx.AsyncByteStream):
    """A request body that comes piece by piece."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body of an answer as it arrives. Raises httpx.TransportError behind everything that had arrived."""
    return aiter(cast(httpx.AsyncByteStream, response.stream))


async def next_piece(pieces: AsyncIterator[bytes], take: Callable[[bytes], bool]) -> bytes:
    """The next one; from our own transport the next that `take` does not take, see `Exchange.beyond`."""
    return await (pieces.beyond(take) if isinstance(pieces, Exchange) else anext(pieces))


def unpacked_pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """`pieces` without the content coding of the answer. Raises UnknownCoding."""
    coding = coding_of(response)
    return pieces(response) if coding is None else Unpacked(pieces(response), coding)


def refusal(error: httpx.TransportError) -> WireError:
    """What a client is told when the agent could not be called. The first and the third mean that nothing was sent."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return errors.upstream_unreachable(sent=False)
        case httpx.TimeoutException():
            return errors.upstream_timeout()
        case httpx.LocalProtocolError():
            return errors.invalid("The request cannot be passed on to the agent.", code="invalid_request")
        case _:
            return errors.upstream_unreachable(sent=True)


def failure(error: httpx.TransportError) -> Failure:
    """The same as the `error` of a response that had begun."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return Failure("upstream_unreachable", "The agent could not be reached.")
        case httpx.TimeoutException():
            return Failure("upstream_timeout", "The agent was silent for too long.")
        case _:
            return Failure("upstream_disconnected", "The agent's connection broke before its answer was complete.")
