"""The word of an auth service, or of the agent, on who may use respool's own routes.

It is asked with the caller's headers, as nginx's auth_request does: 2xx lets pass, 401 and 403 are handed on, and
everything else lets nobody in. It is asked who somebody is, not what they want: path, method and body do not go along.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import httpx

from respool.proxy import upstream as agent
from respool.proxy.protocol import errors
from respool.proxy.protocol.errors import WireError
from respool.proxy.reply import Header
from respool.proxy.run import Answer
from respool.proxy.transport import Transport

log = logging.getLogger(__name__)

REMEMBERED_SECONDS = 60.0
_MOST_REMEMBERED = 10_000
_ANSWER_SECONDS = 10.0
_REFUSAL_BYTES = 64 * 1024

Refusal = WireError | Answer

# These differ between the requests of one caller and name nobody. They are not sent, so that the answer cannot depend
# on them; it is remembered for all that was sent.
_OF_ONE_REQUEST = frozenset(
    {
        *(b"host", b"content-length", b"content-type", b"content-encoding", b"accept", b"accept-encoding"),
        *(b"cache-control", b"pragma", b"idempotency-key", b"last-event-id", b"x-request-id", b"traceparent"),
        *(b"tracestate", b"baggage", b"x-agent-response-id", b"x-agent-foundry-call-id", b"x-respool-background"),
        *(b"x-stainless-retry-count", b"x-stainless-read-timeout", b"x-stainless-timeout"),
    }
)


class AuthProbe:
    """Asks once for each credential, however many requests wait for it; good answers are remembered for a minute."""

    def __init__(
        self,
        url: str,
        connect_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = httpx.URL(url)
        parts = urlsplit(url)
        self._target = ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode()
        self._timeout = {"connect": connect_seconds, "read": _ANSWER_SECONDS, "write": _ANSWER_SECONDS}
        self._transport = transport or Transport()
        self._clock = clock
        self._secret = os.urandom(32)
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Refusal | None]] = {}

    async def refusal(self, headers: Iterable[Header]) -> Refusal | None:
        """None for a caller who may pass."""
        sent = agent.end_to_end(headers, _OF_ONE_REQUEST)
        digest = self._digest(sent)
        if self._good.get(digest, 0.0) > self._clock():
            return None
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.create_task(self._ask(digest, sent))
            self._asking[digest] = task
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        # A caller who goes does not take the answer away from the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let go of every question that is still open."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._transport.aclose()

    def _digest(self, headers: Iterable[Header]) -> bytes:
        """Of the names and values as they were sent. No credential is kept, and nobody else can make the digest."""
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in (part for header in headers for part in header):
            digest.update(b"%d:%b" % (len(part), part))
        return digest.digest()

    async def _ask(self, digest: bytes, headers: list[Header]) -> Refusal | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS + self._timeout["connect"]):
                refusal = await self._answer(headers)
        except (httpx.TransportError, TimeoutError) as error:
            log.warning("auth_probe_failed", extra={"problem": type(error).__name__})
            return errors.access_unknown()
        if refusal is None:
            self._remember(digest)
        return refusal

    async def _answer(self, headers: list[Header]) -> Refusal | None:
        request = httpx.Request("GET", self._url, stream=httpx.ByteStream(b""))
        request.headers = httpx.Headers([(b"host", self._url.netloc), *headers])
        request.extensions = {"target": self._target, "timeout": self._timeout}
        response = await self._transport.handle_async_request(request)
        try:
            if response.is_success:
                return None
            if response.status_code in (401, 403):
                kept = agent.end_to_end(response.headers.raw, (b"content-length",))
                return Answer(response.status_code, kept, await _beginning(response))
        finally:
            await response.aclose()
        log.warning("auth_probe_failed", extra={"http_status": response.status_code})
        return errors.access_unknown()

    def _remember(self, digest: bytes) -> None:
        self._good.pop(digest, None)
        self._good[digest] = self._clock() + REMEMBERED_SECONDS
        while len(self._good) > _MOST_REMEMBERED:
            self._good.popitem(last=False)


async def _beginning(response: httpx.Response) -> bytes:
    """The words of a refusal; torn or endless ones are none at all."""
    body = bytearray()
    async for piece in agent.pieces(response):
        body += piece
        if len(body) > _REFUSAL_BYTES:
            raise httpx.ReadError("the refusal is too large")
    return bytes(body)
