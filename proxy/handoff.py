"""How a request leaves Quart: admitted there, answered below it on the bare ASGI wire.

Quart cancels a handler when its client goes, has no back-pressure, and holds a request context for each stream; what is
long or must not be cancelled is therefore answered here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import Response
from quart.asgi import ASGIHTTPConnection
from quart.utils import cancel_tasks

from respool.proxy.asking import request_id_of
from respool.proxy.reply import Receive, Reply, Scope, Send, answered

Answer = Callable[[Reply, Scope], Awaitable[None]]


class Handoff(Response):
    """A Quart response that stands for an answer to be given below Quart."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Connection(ASGIHTTPConnection):
    """Quart's ASGI connection, which lets a Handoff out of the request context."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle one request."""
        request = self._create_request_from_scope(send)
        receiver = asyncio.ensure_future(self.handle_messages(request, receive))
        handler = asyncio.ensure_future(self.app.handle_request(request))
        await asyncio.wait([handler, receiver], return_when=asyncio.FIRST_COMPLETED)
        # The disconnect is told once: if the receiver has taken it, nobody below could learn of it any more.
        gone = receiver.done()
        await cancel_tasks({task for task in (receiver, handler) if not task.done()})
        if gone or not handler.done() or handler.cancelled():
            return
        response = handler.result()
        if not isinstance(response, Handoff):
            await self._send_response(send, response)
            return
        scope = cast(Scope, self.scope)
        reply = Reply(scope, cast(Receive, receive), cast(Send, send))
        await answered(reply, response.answer(reply, scope), request_id_of(scope["headers"]))
