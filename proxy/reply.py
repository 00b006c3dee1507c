"""One answer on the ASGI wire: head, body in bounded writes, and whether the client is there."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar

from respool.proxy.ear import Ear
from respool.proxy.protocol import errors
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.jsons import dumps
from respool.proxy.turns import TakeTurn, next_turn
from respool.store.base import StorageFailed

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

Result = TypeVar("Result")

# The transport keeps what the peer has not taken; beyond this a slow reader would hold more than its share.
_SLICE_BYTES = 64 * 1024

# What is live is rarely more at once, and waits for nobody.
_SMALL_BYTES = 16 * 1024

# A client that cannot be heard is looked for so often.
_LOOK_SECONDS = 1.0

JSON_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"),)
SSE_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
)


class ClientGone(Exception):
    """The client has closed its connection, or takes nothing any more."""


class _DoorEar(Ear[None]):
    """Hears that the client has left, and says so."""

    __slots__ = ()

    def heard(self, word: None) -> Exception:
        return ClientGone()


class OfferChunk(Protocol):
    """Sends a chunk without waiting; with the last one also what ends the body. False if it cannot, and nothing."""

    def __call__(self, data: bytes, *, is_last: bool) -> bool: ...


def _takes_none(data: bytes, *, is_last: bool) -> bool:
    return False


class Reply:
    """The answer to one request. Use `watching()` around whatever waits or streams."""

    __slots__ = (
        *("_ear", "_gone", "_has_left", "_is_chunked", "_offer_chunk", "_receive", "_scope", "_send", "_send_chunk"),
        *("_watch", "started", "take_turn"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ear = _DoorEar()
        self._gone = False
        self._is_chunked = False
        # What the server tells of the connection; another server has none of it.
        wire = scope.get("state", {})
        self._send_chunk: Callable[[bytes], Awaitable[None]] | None = wire.get("send_chunk")
        self._offer_chunk: OfferChunk = wire.get("offer_chunk", _takes_none)
        self.take_turn: TakeTurn = wire.get("take_turn", next_turn)
        self._has_left: Callable[[], bool] = wire.get("has_left", lambda: False)
        self._watch: Callable[[Callable[[], None] | None], None] | None = wire.get("watch")
        self.started = False

    def watching(self, after: asyncio.Event | None = None) -> AbstractAsyncContextManager[None]:
        """Notice inside this block when the client leaves: `listen` and `write` then raise ClientGone.

        Until `after` is set somebody else takes the body of the request, and may not take all that is there.
        """
        if after is None and self._watch is not None:
            return _Told(self._watch, self._client_left)
        return self._watching_by_task(after)

    @asynccontextmanager
    async def _watching_by_task(self, after: asyncio.Event | None) -> AsyncIterator[None]:
        watcher = asyncio.create_task(self._wait_for_the_leaving(after))
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    async def _wait_for_the_leaving(self, after: asyncio.Event | None) -> None:
        if after is None or await self._stays_until(after):
            while (await self._receive())["type"] != "http.disconnect":
                pass
        self._client_left()

    def _client_left(self) -> None:
        self._gone = True
        self._ear.tell(None)

    async def _stays_until(self, after: asyncio.Event) -> bool:
        """Whether the client is there until then. Behind a body that nobody takes its leaving cannot be heard."""
        while not after.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await after.wait()
            if not after.is_set() and self._has_left():
                return False
        return True

    def listen(self, wait: Callable[[], Awaitable[Result]]) -> Awaitable[Result]:
        """What `wait()` gives. Raises ClientGone when the client leaves first."""
        return self._ear.listen(wait)

    async def start(self, http_status: int, headers: Iterable[Header]) -> None:
        """Send the head; `headers` are raw and lower case."""
        headers = list(headers)
        self.started = True
        self._is_chunked = (
            self._scope["http_version"] == "1.1"
            and self._scope["method"] != "HEAD"
            and not any(name.lower() == b"content-length" for name, _ in headers)
        )
        await self._send({"type": "http.response.start", "status": http_status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a part of the body. Raises ClientGone; the connection cuts off a client that takes nothing."""
        if len(data) <= _SMALL_BYTES:
            await self._write(data)
            return
        for at in range(0, len(data), _SLICE_BYTES):
            await self.take_turn()
            await self._write(data[at : at + _SLICE_BYTES])

    def offer(self, data: bytes, *, is_last: bool) -> bool:
        """Send a part of the body now if the client is there to take it, without waiting; else False, and nothing.

        Behind the last part comes nothing but `end`.
        """
        if self._gone or not self._is_chunked or not 0 < len(data) <= _SLICE_BYTES:
            return False
        return self._offer_chunk(data, is_last=is_last)

    async def _write(self, data: bytes) -> None:
        if self._gone:
            raise ClientGone
        if self._is_chunked and self._send_chunk is not None and data:
            await self._send_chunk(data)
        else:
            await self._send(_body(data, more=True))

    async def end(self) -> None:
        """Finish the body."""
        await self._send(_body(b"", more=False))

    async def whole(self, http_status: int, headers: Iterable[Header], body: bytes) -> None:
        """A complete answer."""
        await self.start(http_status, [*headers, (b"content-length", b"%d" % len(body))])
        if body and self._scope["method"] != "HEAD":
            await self.write(body)
        await self.end()

    async def error(self, error: WireError, request_id: str) -> None:
        """An error answer in the shape of the API."""
        await self.whole(error.http_status, error_headers(error, request_id), dumps(error.body(request_id)))

    def cut(self) -> None:
        """Break the connection, so that nobody takes what was sent for the whole."""
        abort = self._scope.get("state", {}).get("abort")
        if abort is not None:
            abort()


class _Told(AbstractAsyncContextManager[None]):
    """A block in which the server tells that the client has left; no task waits for it."""

    __slots__ = ("_tell", "_watch")

    def __init__(self, watch: Callable[[Callable[[], None] | None], None], tell: Callable[[], None]) -> None:
        self._watch = watch
        self._tell = tell

    async def __aenter__(self) -> None:
        self._watch(self._tell)

    async def __aexit__(self, *_: object) -> None:
        self._watch(None)


async def answered(reply: Reply, answer: Awaitable[None], request_id: str) -> None:
    """Give an answer to its end. A fault of our own is told without a detail, or cuts an answer that has begun."""
    try:
        await answer
    except ClientGone:
        return
    except Exception as error:  # noqa: BLE001 - it is told and logged there
        told = wire_error(error, request_id)
        # Who raised it may have kept it, and it holds them and the request: until the garbage collector comes.
        error.__traceback__ = None
        if reply.started:
            reply.cut()
            return
        with suppress(ClientGone):
            await reply.error(told, request_id)


def wire_error(error: Exception, request_id: str) -> WireError:
    """Whatever was raised, as what may be told of it; the log gets the rest."""
    match error:
        case WireError():
            return error
        case StorageFailed():
            # Which file and why is in its words; it comes again with each request, so without a traceback.
            log.error("storage_failed", extra={"request_id": request_id, "error": str(error)})
            return errors.storage_error()
        case _:
            log.error("request_failed", extra={"request_id": request_id}, exc_info=error)
            return errors.server_error()


def own_headers(request_id: str, session: str | None) -> list[Header]:
    """What every reply of ours carries: its request id, and the session that the agent gave on the POST."""
    headers = [(b"x-request-id", request_id.encode())]
    if session is not None:
        headers.append((b"x-agent-session-id", session.encode("latin-1", "replace")))
    return headers


def error_headers(error: WireError, request_id: str) -> list[Header]:
    """The headers that go with an error answer."""
    own = {"x-request-id": request_id, "x-platform-error-source": error.source, **error.headers}
    return [*JSON_HEADERS, *((name.encode(), value.encode("latin-1", "replace")) for name, value in own.items())]


def _body(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
