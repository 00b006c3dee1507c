"""The ASGI application: what is ours goes to Quart, everything else straight to the agent; start and stop."""

import asyncio
import logging
from typing import NoReturn

import httpx
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from respool.proxy.access import Access, turn_away
from respool.proxy.admission import Admission
from respool.proxy.asking import request_id_of
from respool.proxy.auth_probe import Refusal
from respool.proxy.passthrough import forward
from respool.proxy.protocol import errors
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.jsons import dumps
from respool.proxy.reading import Reading, Unknown
from respool.proxy.reply import Receive, Reply, Scope, Send, answered, error_headers, wire_error
from respool.proxy.routes import HEALTH, OWN, UNGUARDED, Match, Prefixes, Routes
from respool.proxy.runs import Runs, take_over
from respool.proxy.settings import Settings
from respool.proxy.snapshots import Snapshots
from respool.proxy.streams import Streams
from respool.proxy.strict import unclear
from respool.proxy.sweeper import Sweeper
from respool.proxy.upstream import Upstream
from respool.store.base import Store
from respool.store.log import Log
from respool.store.memory import MemoryBackend

log = logging.getLogger(__name__)


class App:
    """respool as an ASGI application over a store. Call `start` once, `drain` and `close` at the end.

    What comes before `start` is through waits for it: nobody reads of a response that has no end and no run. Only the
    probe of the process and what is not ours are answered at once.
    """

    def __init__(self, settings: Settings, store: Store, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._store = store
        self._private = Log(MemoryBackend())
        self._upstream = Upstream(settings, transport)
        self._access = Access(settings)
        self._snapshots = Snapshots()
        self._prefixes = Prefixes(settings.prefixes)
        self.runs = Runs(self._upstream, self._snapshots, settings)
        reading = Reading(settings, store, self.runs, self._snapshots)
        admission = Admission(settings, store, self._private, self.runs, self._snapshots)
        self._streams = Streams(settings, store, self._upstream, admission, reading)
        self._quart = self._make_quart(Routes(settings, store, self.runs, reading))
        self._started = asyncio.Event()
        self._sweeping: asyncio.Task[NoReturn] | None = None

    async def start(self) -> int:
        """Take over what a dead process left behind; how many responses were given their end."""
        orphans = await take_over(self._store, self.runs, self._snapshots, self._settings)
        self._started.set()
        self._sweeping = asyncio.create_task(Sweeper(self._store, self._settings)(), name="sweeper")
        return orphans

    async def drain(self) -> None:
        """Take no more creates, let the runs end within the grace, then end them."""
        await self.runs.drain(self._settings.grace_seconds)

    async def close(self) -> None:
        """Let go of the agent and of the store."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await self.runs.cancel_all()
        await self._access.close()
        await self._upstream.close()
        await self._private.close()
        await self._store.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            return
        reply = Reply(scope, receive, send)
        request_id = request_id_of(scope["headers"])
        refusal = unclear(scope, self._settings.owner_headers)
        if refusal is not None:
            await reply.error(refusal, request_id)
            return
        route = self._prefixes.match(scope["method"], scope["raw_path"].partition(b"?")[0])
        is_admin = bool(scope.get("state", {}).get("admin"))
        if scope.get("state", {}).get("crowded") and (route is None or not route.is_own):
            await reply.error(errors.crowded(), request_id)
        elif route is not None and (not is_admin or route.is_own):
            no_access = await self._no_access(route, scope, is_admin=is_admin)
            if no_access is None:
                if route.path != HEALTH:
                    await self._started.wait()
                answer = self._streams.answer(route, scope, receive, reply, request_id)
                if answer is not None:
                    del route  # whoever follows for hours does not keep it
                    await answered(reply, answer, request_id)
                elif not await self._streams.sent_on(route, scope, reply, request_id):
                    await self._quart(_for_quart(scope, route, request_id), receive, send)  # type: ignore[arg-type]
            else:
                await answered(reply, turn_away(no_access, receive, reply, request_id), request_id)
        elif is_admin:
            await reply.error(_no_route(), request_id)
        else:
            await answered(reply, forward(self._upstream, scope, receive, reply, request_id), request_id)

    async def _no_access(self, route: Match, scope: Scope, *, is_admin: bool) -> Refusal | None:
        if route.path in UNGUARDED:
            return None
        return await self._access.refusal(scope["headers"], is_admin=is_admin)

    def _make_quart(self, routes: Routes) -> Quart:
        app = Quart(__name__, static_folder=None)
        app.config.update(
            MAX_CONTENT_LENGTH=self._settings.max_request_bytes,
            BODY_TIMEOUT=None,
            RESPONSE_TIMEOUT=None,
            PROVIDE_AUTOMATIC_OPTIONS=False,
        )
        app.url_map.strict_slashes = False
        app.url_map.merge_slashes = False
        routes.register(app)
        app.register_error_handler(Exception, self._failed)
        app.after_request(_with_request_id)
        return app

    async def _failed(self, error: Exception) -> Response:
        wire = self._wire(error)
        request_id = _request_id()
        response = Response(dumps(wire.body(request_id)), status=wire.http_status)
        for name, value in error_headers(wire, request_id):
            response.headers[name.decode()] = value.decode("latin-1")
        return response

    def _wire(self, error: Exception) -> WireError:
        """Whatever was raised, in the shape of the API and without a detail of ours."""
        match error:
            case RequestEntityTooLarge():
                return errors.too_large(self._settings.max_request_bytes)
            case HTTPException():
                return _no_route()
            case Unknown():
                return error.error
            case _:
                return wire_error(error, _request_id())


def _no_route() -> WireError:
    return WireError(404, f"There is no such route below {OWN}.", code="not_found")


def _for_quart(scope: Scope, route: Match, request_id: str) -> Scope:
    return {**scope, "path": route.path, "state": {**scope.get("state", {}), "request_id": request_id}}


def _request_id() -> str:
    return str(request.scope["state"]["request_id"])


async def _with_request_id(response: Response) -> Response:
    response.headers["x-request-id"] = _request_id()
    return response
