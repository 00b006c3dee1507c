"""An agent's answer that came compressed although nobody asked for it: its bytes as they were before.

Source: RFC 9110 section 8.4.1. What is not gzip or deflate cannot be read.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import httpx

_SLICE_BYTES = 256 * 1024
# As zlib names its formats. A "deflate" without the head of zlib is the raw format, which some servers send.
_GZIP, _ZLIB, _RAW = 31, 15, -15
_FORMATS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


class UnknownCoding(Exception):
    """The body has a content coding that is not known here; the argument is its name."""


def coding_of(response: httpx.Response) -> str | None:
    """The content coding of a body, None for none. Raises UnknownCoding."""
    named = response.headers.get_list("content-encoding", split_commas=True)
    codings = [coding.lower() for coding in named if coding and coding.lower() != "identity"]
    if not codings:
        return None
    if codings[1:] or codings[0] not in _FORMATS:
        raise UnknownCoding(", ".join(codings))
    return codings[0]


class Unpacker:
    """Packed bytes in, slices out: a small body may hold a thousand times its size, and is never in memory as a whole.

    `is_whole` tells whether the body may end here.
    """

    def __init__(self, coding: str) -> None:
        self._format = _FORMATS[coding]
        self._inflate = zlib.decompressobj(self._format)
        self._begin = b""
        self._began = False

    @property
    def is_whole(self) -> bool:
        return self._inflate.eof if self._began else not self._begin

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What has become readable, in slices of 256 KiB at most; to be read to its end before the next `feed`.

        Raises httpx.RemoteProtocolError behind everything that could be read.
        """
        left, more = self._begin + packed, True
        if not self._began:
            if len(left) < 2:
                self._begin = left
                return
            self._start(left)
        while left or more:
            if self._inflate.eof:
                if not left:
                    return
                self._inflate = zlib.decompressobj(self._format)
            before = self._inflate.copy()
            try:
                piece = self._inflate.decompress(left, _SLICE_BYTES)
            except zlib.error as error:
                if found := _readable(before, left):
                    yield found
                raise httpx.RemoteProtocolError(f"malformed content coding: {error}") from error
            left = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            # A full slice may have more behind it that zlib has already read.
            more = len(piece) == _SLICE_BYTES
            if piece:
                yield piece

    def _start(self, head: bytes) -> None:
        self._began, self._begin = True, b""
        if self._format == _ZLIB and (head[0] & 15 != 8 or int.from_bytes(head[:2]) % 31):
            self._format = _RAW
            self._inflate = zlib.decompressobj(_RAW)


def _readable(inflate: "zlib._Decompress", packed: bytes) -> bytes:
    """What comes before the fault: where there is one, zlib gives nothing of the whole piece."""
    found = bytearray()
    try:
        for byte in packed:
            found += inflate.decompress(bytes((byte,)))
    except zlib.error:
        pass
    return bytes(found)


class Unpacked:
    """The pieces of a body, unpacked. A task that is cancelled while it waits for a piece loses none.

    Raises httpx.TransportError behind everything that could be read, also for a body that was cut short.
    """

    def __init__(self, source: AsyncIterator[bytes], coding: str) -> None:
        self._source = source
        self._unpacker = Unpacker(coding)
        self._slices: Iterator[bytes] = iter(())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        # One piece may hold very many slices: others must get their turn.
        await asyncio.sleep(0)
        while not (piece := next(self._slices, b"")):
            self._slices = self._unpacker.feed(await self._more())
        return piece

    async def _more(self) -> bytes:
        try:
            return await anext(self._source)
        except StopAsyncIteration:
            if not self._unpacker.is_whole:
                raise httpx.RemoteProtocolError("the compressed body was cut short") from None
            raise


def unpacked(body: bytes, coding: str, limit: int) -> bytes:
    """A whole body, at most about `limit` bytes of it. Raises httpx.RemoteProtocolError."""
    found = bytearray()
    for piece in Unpacker(coding).feed(body):
        found += piece
        if len(found) > limit:
            break
    return bytes(found)
