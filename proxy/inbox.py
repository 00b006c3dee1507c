"""How an application runs for one request: Hypercorn's task group, with a queue that never holds a disconnect back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

log = logging.getLogger(__name__)

_PIECES = 10


class _Inbox:
    """What an application receives: a few pieces of the body at a time, and that its client left always.

    Hypercorn's queue holds a disconnect back while it is full, for ever if the application has stopped reading. One
    task receives at a time. There is one inbox for each follower: what it waits by is made when it waits.
    """

    __slots__ = ("_left", "_messages", "_room", "_some", "_tell")

    def __init__(self) -> None:
        self._messages: list[ASGIReceiveEvent] = []
        self._some: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._left = False
        self._tell: Callable[[], None] | None = None

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Add a message; a piece of the body waits for room, unless the client has left."""
        if message["type"] == "http.disconnect":
            self._left = True
            if self._tell is not None:
                self._tell()
        while len(self._messages) >= _PIECES and not self._left:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        if self._tell is None or self._left:
            self._messages.append(message)
        _wake(self._some)
        if self._left:
            _wake(self._room)

    async def get(self) -> ASGIReceiveEvent:
        """The next message."""
        while not self._messages:
            self._some = asyncio.get_running_loop().create_future()
            await self._some
        message = self._messages.pop(0)
        _wake(self._room)
        return message

    def watch(self, tell: Callable[[], None] | None) -> None:
        """From now on drop what comes of the body, and call `tell` when the client leaves; None ends it."""
        self._tell = tell
        if tell is None:
            return
        if self._left:
            tell()
        else:
            self._messages.clear()
            _wake(self._room)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Tasks(TaskGroup):
    """Hypercorn's task group, whose applications have our inbox."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        inbox = _Inbox()
        scope["state"]["watch"] = inbox.watch
        self.spawn(_serve, app, config, scope, inbox.get, send)
        return inbox.put


async def _serve(
    app: AppWrapper,
    config: Config,
    scope: Scope,
    receive: Callable[[], Awaitable[ASGIReceiveEvent]],
    send: Callable[[ASGISendEvent | None], Awaitable[None]],
) -> None:
    """One request; a defect of the application is logged and costs this connection alone."""
    try:
        await app(scope, receive, send, _no_threads, _no_threads)
    except Exception:
        log.exception("application_failed")
    finally:
        await send(None)


def _no_threads(*_: object) -> NoReturn:
    """What Hypercorn offers to applications that are not asynchronous."""
    raise NotImplementedError
