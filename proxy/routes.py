"""Which requests are ours, and one short function for each.

A path is ours when it is PREFIX/responses or below; matched on the raw path, split first and decoded once, so that an
encoded slash cannot make one route look like another. Source: CONTRACT section 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from quart import Quart, Response, request

from respool.proxy import delivery
from respool.proxy.admission import Admission
from respool.proxy.asking import Asking, asking
from respool.proxy.handoff import Handoff
from respool.proxy.passthrough import forward
from respool.proxy.protocol import errors
from respool.proxy.protocol.jsons import dumps
from respool.proxy.reading import Reading, Unknown
from respool.proxy.reply import Reply, Scope, own_headers
from respool.proxy.runs import Runs
from respool.proxy.settings import Settings
from respool.proxy.upstream import Upstream
from respool.store.base import Head, Key, NotFound, Store

OWN = "/_respool"
HEALTH = f"{OWN}/health"
UNGUARDED = frozenset({HEALTH, f"{OWN}/ready"})
"""For probes of the platform, which have no credentials."""

_DESCRIPTION = files("respool.proxy").joinpath("openapi.json").read_bytes()

# (segments behind /responses, method): what is ours of it; every other method passes through.
_METHODS = {"create": ("POST",), "read": ("GET", "HEAD", "DELETE"), "cancel": ("POST",), "input_items": ("GET", "HEAD")}


@dataclass(frozen=True, slots=True)
class Match:
    """A path of ours, as Quart is to see it: without the prefix, each segment decoded once.

    `is_own` for what is below /_respool.
    """

    path: str
    is_own: bool = False


class Prefixes:
    """The prefixes under which /responses is ours; `*` stands for one segment."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self._prefixes = [tuple(part for part in prefix.split("/") if part) for prefix in prefixes]

    def match(self, method: str, raw_path: bytes) -> Match | None:
        """The route of a request, or None when it is not ours."""
        segments = tuple(raw_path.split(b"/"))[1:]
        if segments[:1] == (OWN[1:].encode(),):
            return Match("/" + "/".join(map(_decode, segments)), is_own=True)
        for prefix in self._prefixes:
            head, rest = segments[: len(prefix)], segments[len(prefix) :]
            if rest[:1] == (b"responses",) and len(head) == len(prefix) and all(map(_fits, prefix, head)):
                return _below(method, rest[1:])
        return None


def _fits(pattern: str, segment: bytes) -> bool:
    return bool(segment) if pattern == "*" else pattern == _decode(segment)


def _decode(segment: bytes) -> str:
    return unquote_to_bytes(segment).decode("utf-8", "replace")


def _below(method: str, rest: tuple[bytes, ...]) -> Match | None:
    match rest:
        case ():
            kind, path = "create", "/responses"
        case (bytes(id_),) if id_:
            kind, path = "read", f"/responses/{_id(id_)}"
        case (bytes(id_), b"cancel" | b"input_items" as verb) if id_:
            kind = verb.decode()
            path = f"/responses/{_id(id_)}/{kind}"
        case _:
            return None
    return Match(path) if method in _METHODS[kind] else None


def _id(segment: bytes) -> str:
    """The id in a path. One with an encoded slash stays encoded: it is nobody's, and must not look like a route."""
    text = _decode(segment)
    return segment.decode("ascii", "replace") if "/" in text else text


class Routes:
    """The handlers, on a Quart app."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        runs: Runs,
        upstream: Upstream,
        admission: Admission,
        reading: Reading,
    ) -> None:
        self._settings = settings
        self._store = store
        self._runs = runs
        self._upstream = upstream
        self._admission = admission
        self._reading = reading

    def register(self, app: Quart) -> None:
        """Add every route of ours."""
        for rule, methods, view in (
            ("/responses", ["POST"], self.create),
            ("/responses/<id_>", ["GET"], self.read),
            ("/responses/<id_>", ["DELETE"], self.delete),
            ("/responses/<id_>/cancel", ["POST"], self.cancel),
            ("/responses/<id_>/input_items", ["GET"], self.input_items),
            (f"{OWN}/responses", ["GET"], self.list_own),
            (HEALTH, ["GET"], self.health),
            (f"{OWN}/ready", ["GET"], self.ready),
            (f"{OWN}/openapi.json", ["GET"], self.openapi),
        ):
            app.add_url_rule(rule, view.__name__, view, methods=methods, provide_automatic_options=False)

    async def create(self) -> Response:
        """POST /responses"""
        who = self._asking()
        admitted = await self._admission.decide(cast(bytes, await request.get_data()), who)
        return Handoff(lambda reply, _: self._admission.answer(admitted, reply, who.request_id))

    async def read(self, id_: str) -> Response:
        """GET /responses/{id}, and HEAD, which is that of the JSON"""
        who = self._asking()
        key = Key(who.owner, id_)
        try:
            if request.args.get("stream", "").lower() == "true" and request.method != "HEAD":
                return await self._replay(key, who)
            head, body = await self._reading.snapshot(key)
        except Unknown as unknown:
            return self._unknown(unknown, who)
        return _json(body, head)

    async def _replay(self, key: Key, who: Asking) -> Response:
        replay = await self._reading.replay(key, request.args, who)
        if replay.is_over:
            return _no_content(replay.head)
        headers = own_headers(who.request_id, replay.head.session)
        keep_alive = self._settings.keep_alive_seconds

        async def stream(reply: Reply, _: Scope) -> None:
            try:
                async with reply.watching():
                    await delivery.stream(reply, self._store, key, replay.after, headers, keep_alive, replay.shown)
            except NotFound:
                raise errors.not_found(key.id) from None

        return Handoff(stream)

    async def delete(self, id_: str) -> Response:
        """DELETE /responses/{id}"""
        who = self._asking()
        try:
            return _json(dumps(await self._reading.delete(Key(who.owner, id_))))
        except Unknown as unknown:
            return self._unknown(unknown, who)

    async def cancel(self, id_: str) -> Response:
        """POST /responses/{id}/cancel; the body is ignored"""
        who = self._asking()
        try:
            head, body = await self._reading.cancel(Key(who.owner, id_))
        except Unknown as unknown:
            return self._unknown(unknown, who)
        return _json(body, head)

    async def input_items(self, id_: str) -> Response:
        """GET /responses/{id}/input_items"""
        who = self._asking()
        try:
            head, page = await self._reading.input_items(Key(who.owner, id_), request.args)
        except Unknown as unknown:
            return self._unknown(unknown, who)
        return _json(dumps(page), head)

    async def list_own(self) -> Response:
        """GET /_respool/responses; everybody's on the port of the administrator"""
        everybody = bool(_scope().get("state", {}).get("admin"))
        return _json(dumps(await self._reading.list_own(None if everybody else self._asking().owner, request.args)))

    async def health(self) -> Response:
        """GET /_respool/health: the process answers"""
        return _json(dumps({"status": "ok"}))

    async def ready(self) -> Response:
        """GET /_respool/ready: creates are taken and can be written"""
        if self._runs.draining:
            raise errors.shutting_down()
        await self._store.ping()
        return _json(dumps({"status": "ready"}))

    async def openapi(self) -> Response:
        """GET /_respool/openapi.json: what these routes take and answer"""
        return _json(_DESCRIPTION)

    def _asking(self) -> Asking:
        return asking(_scope(), self._settings.owner_headers)

    def _unknown(self, unknown: Unknown, who: Asking) -> Response:
        """A response that is not in the log: ours to refuse, or the agent's to know."""
        if self._settings.unknown_ids == "refuse":
            raise unknown.error

        async def send_on(reply: Reply, scope: Scope) -> None:
            await forward(self._upstream, _without_body(scope), _nothing_more, reply, who.request_id)

        return Handoff(send_on)


def _scope() -> Scope:
    return cast(Scope, request.scope)


def _without_body(scope: Scope) -> Scope:
    """The routes that are sent on take no body that means anything; it has been read already."""
    body = (b"content-length", b"transfer-encoding")
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in body]}


async def _nothing_more() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _json(body: bytes, head: Head | None = None) -> Response:
    return _of(head, Response(body, content_type="application/json"))


def _no_content(head: Head) -> Response:
    """204, which tells an `EventSource` not to come again."""
    response = Response(status=204)
    for name in ("content-type", "content-length"):
        response.headers.pop(name, None)
    return _of(head, response)


def _of(head: Head | None, response: Response) -> Response:
    if head is not None and head.session is not None:
        response.headers["x-agent-session-id"] = head.session
    return response
