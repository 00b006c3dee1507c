"""A scripted agent: it says over a real socket exactly what a test wants said, and when."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.raw_server import Peer, raw_server

Json = dict[str, Any]

AGENT_ID = "resp_chosen_by_the_agent"
ITEM_ID = "msg_of_the_agent"
SPEAKING = 5
"""How many events of HELLO there are up to its first delta."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the agent got it, its body without the framing."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> list[str]:
        """Every value of the header, in order."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def json(self) -> Json:
        value: Json = json.loads(self.body)
        return value


@dataclass(slots=True)
class Agent:
    """Where it listens, and what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)


class Wire(Peer):
    """The agent's end of one connection."""

    def __init__(self, sock: socket.socket, agent: Agent) -> None:
        super().__init__(sock)
        self._agent = agent

    async def request(self) -> Asked:
        """The whole request."""
        asked = await self.request_head()
        lengths = asked.header("content-length")
        if asked.header("transfer-encoding"):
            body = await self._chunks()
        else:
            body = await self.receive(int(lengths[0])) if lengths else b""
        asked = Asked(asked.method, asked.target, asked.headers, body)
        self._agent.asked.append(asked)
        return asked

    async def request_head(self) -> Asked:
        """The request without its body, which stays unread; it is not recorded."""
        first, *lines = (await self.head()).decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines if line)
        return Asked(method, target, tuple((name, value.strip()) for name, value in pairs), b"")

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._line(), 16):
            body += await self.receive(size)
            await self._line()
        await self._line()
        return body

    async def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += await self.receive(1)
        return line

    async def begin(self, *headers: str, status: str = "200 OK", kind: str | None = "text/event-stream") -> None:
        """The head of an answer in chunks."""
        lines = [f"HTTP/1.1 {status}", "transfer-encoding: chunked", *headers]
        if kind is not None:
            lines.append(f"content-type: {kind}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def say(self, *events: Json) -> None:
        """Events, each a chunk."""
        await self.send(b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in map(frame, events)))

    async def end(self) -> None:
        """The last chunk; the connection stays open."""
        await self.send(b"0\r\n\r\n")

    async def answer(self, status: str, body: bytes, *headers: str, kind: str = "application/json") -> None:
        """A whole answer."""
        lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers, "", ""]
        await self.send("\r\n".join(lines).encode("latin-1") + body)

    async def gone(self) -> None:
        """Until respool has closed the connection."""
        await self.rest()


Script = Callable[[Wire], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[Agent]:
    """An agent whose connections follow the scripts in turn, the last one from then on.

    A script that fails fails the test, but for writing to a connection that respool has closed.
    """
    agent = Agent()
    left = list(scripts)

    async def follow(peer: Peer) -> None:
        script = left.pop(0) if len(left) > 1 else left[0]
        with contextlib.suppress(ConnectionError):
            await script(Wire(peer.sock, agent))

    async with raw_server(follow) as agent.url:
        yield agent


async def silent(wire: Wire) -> None:
    """A script: take the request and never answer."""
    await wire.request()
    await wire.gone()


async def beginning(wire: Wire) -> None:
    """A script: the first events of a good answer, and nothing more."""
    await wire.request()
    await wire.begin()
    await wire.say(*HELLO[:SPEAKING])


def saying(*events: Json, headers: Iterable[str] = ()) -> Script:
    """A script: all these events, then the end of the transfer."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin(*headers)
        await wire.say(*events)
        await wire.end()

    return script


def answering(status: str, body: bytes, *headers: str, kind: str = "application/json") -> Script:
    """A script: one whole answer that is no stream."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.answer(status, body, *headers, kind=kind)

    return script


class Held:
    """A script: the first `said` events of a good answer, then silence until it is told to go on, or is left.

    Without `said` it takes the request and does not even answer. `reached`: it is silent now. `left`: respool has
    closed the connection. `finished`: it went on and has said everything.
    """

    def __init__(self, said: int | None = SPEAKING) -> None:
        self._said = said
        self.reached, self.going_on, self.left, self.finished = (asyncio.Event() for _ in range(4))

    async def __call__(self, wire: Wire) -> None:
        await wire.request()
        if self._said is not None:
            await wire.begin()
            await wire.say(*HELLO[: self._said])
        self.reached.set()
        gone, going_on = asyncio.create_task(wire.gone()), asyncio.create_task(self.going_on.wait())
        await asyncio.wait({gone, going_on}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            self.left.set()
        else:
            await self._go_on(wire)
        going_on.cancel()
        await gone

    async def _go_on(self, wire: Wire) -> None:
        if self._said is None:
            await wire.begin()
        await wire.say(*HELLO[self._said or 0 :])
        await wire.end()
        self.finished.set()


def frame(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def lifecycle(step: str, **fields: Any) -> Json:
    """`response.<step>` with an object such as agents send, `fields` laid over it."""
    status = "in_progress" if step == "created" else step
    response = {"id": AGENT_ID, "object": "response", "created_at": 1, "status": status, "output": [], **fields}
    return {"type": f"response.{step}", "response": response}


def message(text: str, status: str = "completed") -> Json:
    """A finished message item."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": ITEM_ID, "role": "assistant", "status": status, "content": content}


PLACE: Json = {"item_id": ITEM_ID, "output_index": 0, "content_index": 0}


def opening() -> list[Json]:
    """Everything before the first delta."""
    item = {"type": "message", "id": ITEM_ID, "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    return [
        lifecycle("created"),
        lifecycle("in_progress"),
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **PLACE, "part": part},
    ]


def delta(text: str) -> Json:
    return {"type": "response.output_text.delta", **PLACE, "delta": text}


def closing(text: str) -> list[Json]:
    """Everything between the last delta and the end."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return [
        {"type": "response.output_text.done", **PLACE, "text": text},
        {"type": "response.content_part.done", **PLACE, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message(text)},
    ]


def completed(text: str) -> Json:
    return lifecycle("completed", output=[message(text)])


def answer(*pieces: str) -> list[Json]:
    """A whole good answer."""
    text = "".join(pieces)
    return [*opening(), *map(delta, pieces), *closing(text), completed(text)]


HELLO = answer("Hel", "lo")
