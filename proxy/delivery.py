"""What a client gets: batches of events as SSE, or one JSON object; keep-alive; and the cut of what was deleted.

Source: CONTRACT sections 2 to 4.
"""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from functools import partial

from respool.proxy.follow import PAGE_BYTES, follow
from respool.proxy.protocol import splice
from respool.proxy.protocol.errors import WireError
from respool.proxy.protocol.events import error_event
from respool.proxy.protocol.sse import encode, split
from respool.proxy.reply import SSE_HEADERS, Header, Reply
from respool.proxy.run import Answer, Run
from respool.store.base import Chunk, Key, NotFound, Page, StorageFailed, Store

_KEEP_ALIVE = b": keep-alive\n\n"

Transform = Callable[[Chunk], bytes]


def transform(*, with_ids: bool, plain: bool = False) -> Transform:
    """How the events are shown: with their numbers as `id` lines too; without their `obfuscation` padding."""
    if with_ids:
        return partial(_with_ids, plain=plain)
    return _without_obfuscation if plain else _as_stored


def _as_stored(chunk: Chunk) -> bytes:
    """The bytes of the log, shared by all readers."""
    return chunk.data


def _without_obfuscation(chunk: Chunk) -> bytes:
    if b'"obfuscation"' not in chunk.data:
        return chunk.data
    return b"".join(_plain(frame) for frame in chunk.events())


def _with_ids(chunk: Chunk, *, plain: bool) -> bytes:
    frames = map(_plain, chunk.events()) if plain else chunk.events()
    return b"".join(b"id: %d\n%b" % frame for frame in enumerate(frames, chunk.first))


def _plain(frame: bytes) -> bytes:
    if b'"obfuscation"' not in frame:
        return frame
    name, data = split(frame)
    try:
        return encode(name, splice.edit(data, drop=("obfuscation",)))
    except ValueError:
        # A delta is not parsed on its way into the log: what is no JSON is shown as it came.
        return frame


async def stream(
    reply: Reply,
    store: Store,
    key: Key,
    after: int,
    headers: Iterable[Header],
    keep_alive_seconds: float,
    shown: Transform,
    run: Run | None = None,
) -> None:
    """Answer with the events after `after` as `shown`, up to the end.

    Raises ClientGone, and as long as the answer has not begun NotFound and StorageFailed.

    `run` is given for the client of the POST: if it is refused after the answer began, its error is the only frame.
    """
    head = [*SSE_HEADERS, *headers]

    def give(chunk: Chunk, is_last: bool) -> bool:
        if not reply.offer(shown(chunk), is_last=is_last):
            return False
        if run is not None:
            run.backlog.sent(len(chunk.data))
        return True

    try:
        # Before the head, so that what cannot be read at all is told in the shape of the API.
        first = await store.read(key, after, PAGE_BYTES)
        await reply.start(200, head)
        if run is None:
            # Nobody will refuse it any more, and a follower may be idle for hours.
            head, headers = [], ()
        async with aclosing(follow(store, key, after, keep_alive_seconds, first, give, reply.take_turn)) as pages:
            del first  # whoever follows for hours does not keep it
            while True:
                sent = await _write(reply, await reply.listen(pages.__anext__), shown)
                if run is not None:
                    run.backlog.sent(sent)
    except StopAsyncIteration:
        await reply.end()
    except (NotFound, StorageFailed) as error:
        if run is not None and isinstance(error, NotFound):
            # The log forgets a refused run a moment before the run knows that it is refused.
            await run.ended.wait()
            if run.refusal is not None:
                await _refuse_stream(reply, head, run.refusal)
                return
        if not reply.started:
            raise
        # The log cannot be read on: whatever ended here would look whole.
        reply.cut()


async def _refuse_stream(reply: Reply, head: Iterable[Header], refusal: WireError | Answer) -> None:
    if not reply.started:
        await reply.start(200, head)
    await reply.write(_error_frame(refusal))
    await reply.end()


async def _write(reply: Reply, page: Page, shown: Transform) -> int:
    """Send a page, and forget it; how many bytes of the log it was."""
    parts = [shown(chunk) for chunk in page.chunks]
    # A large event is a page of its own: it is not copied.
    await reply.write((parts[0] if len(parts) == 1 else b"".join(parts)) or _KEEP_ALIVE)
    return sum(len(chunk.data) for chunk in page.chunks)


def _error_frame(refusal: WireError | Answer) -> bytes:
    if isinstance(refusal, Answer):
        return encode(b"error", error_event("server_error", "internal server error", None, 0))
    return encode(b"error", error_event(refusal.code, refusal.message, refusal.param, 0))


async def refuse(reply: Reply, refusal: WireError | Answer, request_id: str) -> None:
    """Hand on the agent's own error answer as it is, or tell ours."""
    if isinstance(refusal, WireError):
        await reply.error(refusal, request_id)
    else:
        own = ((b"x-request-id", request_id.encode()), (b"x-platform-error-source", b"upstream"))
        await reply.whole(refusal.http_status, [*_once(refusal.headers, own)], refusal.body)


def _once(headers: Iterable[Header], own: Iterable[Header]) -> Iterable[Header]:
    own = tuple(own)
    names = {name for name, _ in own}
    yield from ((name, value) for name, value in headers if name.lower() not in names)
    yield from own
