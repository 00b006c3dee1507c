"""What is answered below Quart, on the bare ASGI wire: creates, streams, and what only the agent can know.

Quart cancels a handler when its client goes, has no back-pressure, and keeps a request and its contexts for as long as
an answer takes.
"""

from collections.abc import Awaitable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from respool.proxy import delivery
from respool.proxy.admission import Admission
from respool.proxy.asking import asking, first, owner_of
from respool.proxy.passthrough import forward
from respool.proxy.protocol import errors
from respool.proxy.protocol.errors import WireError
from respool.proxy.reading import Reading, Unknown
from respool.proxy.reply import ClientGone, Receive, Reply, Scope, answered, own_headers
from respool.proxy.routes import Match
from respool.proxy.settings import Settings
from respool.proxy.upstream import Upstream
from respool.store.base import Key, NotFound, StorageFailed, Store


class Streams:
    """Answers what is long, or must not be cancelled with its client. The answers raise what `answered` tells."""

    def __init__(
        self, settings: Settings, store: Store, upstream: Upstream, admission: Admission, reading: Reading
    ) -> None:
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._admission = admission
        self._reading = reading

    def answer(
        self, route: Match, scope: Scope, receive: Receive, reply: Reply, request_id: str
    ) -> Awaitable[None] | None:
        """The answer to a request, to be awaited; None if it is not one of these."""
        if route.kind == "create":
            return self._create(scope, receive, reply, request_id)
        if route.kind == "read" and route.id is not None and scope["method"] == "GET":
            query = _query(scope)
            if query.get("stream", "").lower() == "true":
                return self._replay(route.id, query, scope, reply, request_id)
        return None

    async def _create(self, scope: Scope, receive: Receive, reply: Reply, request_id: str) -> None:
        """POST /responses"""
        who = asking(scope, self._settings.owner_headers, request_id)
        body = await _body(scope, receive, self._settings.max_request_bytes)
        async with reply.watching():
            # A client that leaves before its create is decided has asked for nothing.
            await self._admission.answer(
                await reply.listen(lambda: self._admission.decide(body, who)), reply, request_id
            )

    async def _replay(self, id_: str, query: Mapping[str, str], scope: Scope, reply: Reply, request_id: str) -> None:
        """GET /responses/{id}?stream=true"""
        who = asking(scope, self._settings.owner_headers, request_id)
        key = Key(who.owner, id_)
        try:
            replay = await self._reading.replay(key, query, who)
        except Unknown as unknown:
            if self._settings.unknown_ids == "refuse":
                raise unknown.error from None
            return await self._send_on(scope, reply, request_id)
        headers, after, shown = own_headers(request_id, replay.head.session), replay.after, replay.shown
        if replay.is_over:
            # 204 tells an `EventSource` not to come again.
            await reply.start(204, headers)
            return await reply.end()
        # Whoever follows for hours does not keep it.
        del who, query, replay
        async with reply.watching():
            try:
                await delivery.stream(reply, self._store, key, after, headers, self._settings.keep_alive_seconds, shown)
            except NotFound:
                raise errors.not_found(key.id) from None
        return None

    async def sent_on(self, route: Match, scope: Scope, reply: Reply, request_id: str) -> bool:
        """Whether a response is not in the log, and only the agent can know it: then the agent has been asked."""
        if route.id is None or self._settings.unknown_ids == "refuse":
            return False
        try:
            await self._reading.find(Key(owner_of(scope["headers"], self._settings.owner_headers), route.id))
        except Unknown:
            await answered(reply, self._send_on(scope, reply, request_id), request_id)
            return True
        except (WireError, StorageFailed):
            pass  # it is told by the answer that comes next
        return False

    async def _send_on(self, scope: Scope, reply: Reply, request_id: str) -> None:
        await forward(self._upstream, _without_body(scope), _nothing_more, reply, request_id)


def _query(scope: Scope) -> Mapping[str, str]:
    """The first value of each name."""
    return dict(reversed(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)))


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body of a request. Raises WireError for one of more than `limit` bytes, ClientGone."""
    if int(first(scope["headers"], "content-length") or 0) > limit:
        raise errors.too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise errors.too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def _without_body(scope: Scope) -> Scope:
    """The routes that are sent on take no body that means anything."""
    body = (b"content-length", b"transfer-encoding")
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in body]}


async def _nothing_more() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}
