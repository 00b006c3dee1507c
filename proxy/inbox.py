"""How an application runs for one request: Hypercorn's task group, with a queue that never holds a disconnect back."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

log = logging.getLogger(__name__)

_PIECES = 10


class _Inbox:
    """What an application receives: a few pieces of the body at a time, and that its client left always.

    Hypercorn's queue holds a disconnect back while it is full, for ever if the application has stopped reading.
    """

    def __init__(self) -> None:
        self._messages: deque[ASGIReceiveEvent] = deque()
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._left = False

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Add a message; a piece of the body waits for room, unless the client has left."""
        self._left = self._left or message["type"] == "http.disconnect"
        while len(self._messages) >= _PIECES and not self._left:
            self._room.clear()
            await self._room.wait()
        self._messages.append(message)
        self._some.set()
        self._room.set()

    async def get(self) -> ASGIReceiveEvent:
        """The next message."""
        while not self._messages:
            self._some.clear()
            await self._some.wait()
        message = self._messages.popleft()
        self._room.set()
        return message


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
