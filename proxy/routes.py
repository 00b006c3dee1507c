"""Which requests are ours, and one short function for each that is answered whole.

A path is ours when it is PREFIX/responses or below; matched on the raw path, split first and decoded once, so that an
encoded slash cannot make one route look like another. Source: CONTRACT section 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, cast
from urllib.parse import unquote_to_bytes

from quart import Quart, Response, request

from respool.proxy.asking import owner_of
from respool.proxy.protocol.jsons import dumps
from respool.proxy.reading import Reading
from respool.proxy.reply import Scope
from respool.proxy.runs import Runs
from respool.proxy.settings import Settings
from respool.store.base import Head, Key, Store

OWN = "/_respool"
HEALTH = f"{OWN}/health"
UNGUARDED = frozenset({HEALTH, f"{OWN}/ready"})
"""For probes of the platform, which have no credentials."""

_DESCRIPTION = files("respool.proxy").joinpath("openapi.json").read_bytes()

Kind = Literal["own", "create", "read", "cancel", "input_items"]
"""What a path names: something below /_respool, all responses, one response, or what is below one."""

# What is ours of it; every other method passes through.
_METHODS: dict[Kind, tuple[str, ...]] = {
    "create": ("POST",),
    "read": ("GET", "HEAD", "DELETE"),
    "cancel": ("POST",),
    "input_items": ("GET", "HEAD"),
}


@dataclass(frozen=True, slots=True)
class Match:
    """A path of ours, as Quart is to see it: without the prefix, each segment decoded once; `id` that of a response."""

    kind: Kind
    path: str
    id: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is below /_respool."""
        return self.kind == "own"


class Prefixes:
    """The prefixes under which /responses is ours; `*` stands for one segment."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self._prefixes = [tuple(part for part in prefix.split("/") if part) for prefix in prefixes]

    def match(self, method: str, raw_path: bytes) -> Match | None:
        """The route of a request, or None when it is not ours."""
        segments = tuple(raw_path.split(b"/"))[1:]
        if segments[:1] == (OWN[1:].encode(),):
            return Match("own", "/" + "/".join(map(_decode, segments)))
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
            found = Match("create", "/responses")
        case (bytes(segment),) if segment:
            found = Match("read", f"/responses/{_id(segment)}", _id(segment))
        case (bytes(segment), b"cancel" | b"input_items" as verb) if segment:
            kind: Kind = "cancel" if verb == b"cancel" else "input_items"
            found = Match(kind, f"/responses/{_id(segment)}/{kind}", _id(segment))
        case _:
            return None
    return found if method in _METHODS[found.kind] else None


def _id(segment: bytes) -> str:
    """The id in a path. One with an encoded slash stays encoded: it is nobody's, and must not look like a route."""
    text = _decode(segment)
    return segment.decode("ascii", "replace") if "/" in text else text


class Routes:
    """The handlers of what is answered whole, on a Quart app. Raise what `Reading` raises."""

    def __init__(self, settings: Settings, store: Store, runs: Runs, reading: Reading) -> None:
        self._settings = settings
        self._store = store
        self._runs = runs
        self._reading = reading

    def register(self, app: Quart) -> None:
        """Add every route of ours but those of `Streams`."""
        for rule, methods, view in (
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

    async def read(self, id_: str) -> Response:
        """GET /responses/{id}, and HEAD, which is that of the JSON"""
        head, body = await self._reading.snapshot(self._key(id_))
        return _json(body, head)

    async def delete(self, id_: str) -> Response:
        """DELETE /responses/{id}"""
        return _json(dumps(await self._reading.delete(self._key(id_))))

    async def cancel(self, id_: str) -> Response:
        """POST /responses/{id}/cancel; the body is ignored"""
        head, body = await self._reading.cancel(self._key(id_))
        return _json(body, head)

    async def input_items(self, id_: str) -> Response:
        """GET /responses/{id}/input_items"""
        head, page = await self._reading.input_items(self._key(id_), request.args)
        return _json(dumps(page), head)

    async def list_own(self) -> Response:
        """GET /_respool/responses; everybody's on the port of the administrator"""
        everybody = bool(_scope()["state"].get("admin"))
        return _json(dumps(await self._reading.list_own(None if everybody else self._owner(), request.args)))

    async def health(self) -> Response:
        """GET /_respool/health: the process answers"""
        return _json(dumps({"status": "ok"}))

    async def ready(self) -> Response:
        """GET /_respool/ready: creates are taken and can be written"""
        self._runs.refuse_if_draining()
        await self._store.ping()
        return _json(dumps({"status": "ready"}))

    async def openapi(self) -> Response:
        """GET /_respool/openapi.json: what these routes take and answer"""
        return _json(_DESCRIPTION)

    def _key(self, id_: str) -> Key:
        return Key(self._owner(), id_)

    def _owner(self) -> str:
        return owner_of(_scope()["headers"], self._settings.owner_headers)


def _scope() -> Scope:
    return cast(Scope, request.scope)


def _json(body: bytes, head: Head | None = None) -> Response:
    response = Response(body, content_type="application/json")
    if head is not None and head.session is not None:
        response.headers["x-agent-session-id"] = head.session
    return response
