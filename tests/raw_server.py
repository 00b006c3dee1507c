"""A server of raw bytes: each connection follows a script, written as a coroutine over its socket."""

import asyncio
import contextlib
import functools
import gc
import inspect
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()

    async def head(self) -> bytes:
        """The head of the request with its empty line; what came behind it stays for `receive`."""
        while b"\r\n\r\n" not in self._read:
            self._read += await self._more()
        return await self.receive(self._read.index(b"\r\n\r\n") + 4)

    async def receive(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        while len(self._read) < size:
            self._read += await self._more()
        data = bytes(self._read[:size])
        del self._read[:size]
        return data

    async def take(self) -> None:
        """Read once; what comes stays for `receive`."""
        self._read += await self._more()

    async def some(self) -> bytes:
        """What has come, at least a byte; nothing once the client has closed."""
        try:
            return bytes(await self._more())
        except (ConnectionError, EOFError):
            return b""

    async def rest(self) -> bytes:
        """Everything until the client has closed."""
        with contextlib.suppress(ConnectionError, EOFError):
            while True:
                self._read += await self._more()
        return bytes(self._read)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def send_until_stuck(self, data: bytes) -> int:
        """Send until neither the kernel nor the client takes more; how many bytes went."""
        sent = stuck = 0
        while sent < len(data) and stuck < 20:
            try:
                sent += self.sock.send(data[sent : sent + 65536])
                stuck = 0
            except BlockingIOError:
                stuck += 1
                await let_the_loop_look()
        return sent

    def finish(self) -> None:
        """Send a FIN; the socket can still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def _more(self) -> bytes:
        data = await self._loop.sock_recv(self.sock, 65536)
        if not data:
            raise EOFError
        return data


Script = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def raw_server(script: Script) -> AsyncIterator[str]:
    """The URL of a server that runs `script` for every connection; leaving waits until all scripts have ended."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as scripts:
            accepting = scripts.create_task(_accept(listener, script, scripts))
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            accepting.cancel()


async def _accept(listener: socket.socket, script: Script, scripts: asyncio.TaskGroup) -> None:
    while True:
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        scripts.create_task(_follow(script, sock))


async def _follow(script: Script, sock: socket.socket) -> None:
    with sock:
        await script(Peer(sock))


def answering(*pieces: bytes) -> Script:
    """A script that reads the head, sends each piece so that it is read by itself, and closes."""

    async def script(peer: Peer) -> None:
        await peer.head()
        for piece in pieces:
            await peer.send(piece)
            await let_the_loop_look()

    return script


def resetting(*pieces: bytes) -> Script:
    """As `answering`, but the end is a reset."""

    async def script(peer: Peer) -> None:
        await answering(*pieces)(peer)
        peer.reset()

    return script


def staying(*pieces: bytes) -> Script:
    """As `answering`, but the connection stays open until the client closes it."""

    async def script(peer: Peer) -> None:
        await answering(*pieces)(peer)
        await peer.rest()

    return script


async def let_the_loop_look() -> None:
    """Return once the loop has served all sockets that are ready now."""
    loop = asyncio.get_running_loop()
    looked = loop.create_future()
    near, far = socket.socketpair()
    with near, far:

        def seen() -> None:
            loop.remove_reader(far)
            looked.set_result(None)

        loop.add_reader(far, seen)
        near.send(b"x")
        try:
            await looked
        finally:
            loop.remove_reader(far)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test on asyncio's loop and on uvloop; a task or a socket that it leaves behind fails it."""

    @functools.wraps(test)
    def run(*, loop_factory: Callable[[], asyncio.AbstractEventLoop], **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_leaving_nothing(test(**kwargs)))
        gc.collect()

    signature = inspect.signature(test)
    extra = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra], return_annotation=None)  # type: ignore[attr-defined]
    factories = [asyncio.SelectorEventLoop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("loop_factory", factories, ids=["asyncio", "uvloop"])(run)
    return marked


async def _leaving_nothing(scenario: Coroutine[Any, Any, None]) -> None:
    await scenario
    assert asyncio.all_tasks() == {asyncio.current_task()}


@contextlib.asynccontextmanager
async def tls_server(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], folder: Path
) -> AsyncIterator[str]:
    """The URL of a TLS server whose certificate is `CERTIFICATE`; each connection follows `script` and is closed."""
    pem = folder / "server.pem"
    pem.write_text(KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    before = asyncio.all_tasks()

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(follow, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        # Also those in which the loop itself takes the connection in.
        while tasks := asyncio.all_tasks() - before:
            await asyncio.gather(*tasks)


# Made for these tests, valid for localhost and 127.0.0.1 until 2126, trusted by nobody.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/iKsR0VGIs6poVba
m+dwSVkH/rAsa5kG7opVRZB0KCuhRANCAAQw1kFnddohkEib8Jf5w6kWaO7JJ/3j
gP5mAyEFzNeIhSnX8WO4p1OOXFIKrzZZ0fPS6jRSxLz1B1q7rCnmYXhe
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIURV6iLq9jISFozdJT4HqAv/s4v9IwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMDE0MzUyNVoYDzIxMjYxMDI3
MTQzNTI1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQw1kFnddohkEib8Jf5w6kWaO7JJ/3jgP5mAyEFzNeIhSnX8WO4p1OO
XFIKrzZZ0fPS6jRSxLz1B1q7rCnmYXheo28wbTAdBgNVHQ4EFgQUi7fKW5z9nWvb
uQP40Koi2paQuZgwHwYDVR0jBBgwFoAUi7fKW5z9nWvbuQP40Koi2paQuZgwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAJ2I34UCiPMWHCNhIjRdgSz7mJF305c/t0yRyqn5KrgWAiBy
8vVgVTS/kkNKKI2toFC733SR7yvM2WE1uD51BPp/8Q==
-----END CERTIFICATE-----
"""
