"""Server-sent events over bytes: an incremental decoder, and the one frame that respool writes.

Source: WHATWG HTML, "Event stream interpretation". Ids and retry times have no meaning here; they are dropped, as
comments are.
"""

import codecs
import re
from itertools import chain
from typing import cast

Message = tuple[bytes, bytes]
"""The name of its `event:` line (b"" without one), and its data: several `data:` lines joined by LF.

The data of a large event may be a bytearray, which belongs to whoever takes it.
"""

FRAMING_BYTES = 65_536
"""What the lines of one event may have beyond its data: names, comments, `data:` itself."""

LARGE_BYTES = 2**20
"""An event beyond this is copied as seldom as can be: each copy costs its size."""

_SLICE_BYTES = 65_536
_BOM = b"\xef\xbb\xbf"
_LF = 0x0A

_NAMED = re.compile(rb"event: ([^\n]*)\ndata: ([^\n]*)\n\n")
_NAMED_BYTES = len(b"event: \ndata: \n\n")
_NAMELESS = re.compile(rb"data: ([^\n]*)\n\n")
_NAMELESS_BYTES = len(b"data: \n\n")

_HEAD_BYTES = 4_096
_TYPE_BYTES = 512
_NAME_LINE = re.compile(rb"^event: ?([^\n]*)", re.MULTILINE)
_DATA_LINE = re.compile(rb"^data: ?", re.MULTILINE)
_TERMINAL = re.compile(rb"response\.(?:completed|failed|incomplete)")
_TERMINAL_TYPE = re.compile(rb'"type"\s*:\s*"response\.(?:completed|failed|incomplete)"')


class EventTooLarge(Exception):
    """An event is larger than the limit of its kind."""

    def __init__(self, limit: int, messages: list[Message]) -> None:
        """`limit` in bytes; `messages` are those that the same piece had completed before."""
        super().__init__(f"an event is larger than {limit} bytes")
        self.limit = limit
        self.messages = messages


class Decoder:
    """Bytes in, whole events out, however the bytes were cut.

    An event may have `max_event_bytes` of data, or `max_terminal_bytes` if it is a `response.completed`, `.failed` or
    `.incomplete`: by the `event:` line in its first 4 KiB, or if it has none by a `type` in the first 512 bytes of its
    data. Beside its data it may have 64 KiB. An unfinished event is held to the sum of both while it arrives.
    """

    def __init__(self, max_event_bytes: int, max_terminal_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._max_terminal_bytes = max_terminal_bytes
        self._held = bytearray()
        self._at_start = True
        self._after_cr = False
        self._refused = False

    @property
    def pending(self) -> bool:
        """Whether an unfinished event is held, which at the end of the stream is lost. A comment is none."""
        return any(line and not line.startswith(b":") for line in self._held.split(b"\n"))

    def feed(self, piece: bytes) -> list[Message]:
        """The events that end in this piece.

        Raises EventTooLarge, once: from then on every piece is ignored.
        """
        if self._refused:
            return []
        if self._at_start:
            piece = self._without_bom(piece)
        if self._after_cr or b"\r" in piece:
            piece = self._with_lf(piece)
        try:
            messages = self._large(piece) if len(self._held) > LARGE_BYTES else self._messages(self._whole(piece))
            if len(self._held) > self._max_event_bytes + FRAMING_BYTES:
                self._check_held(messages)
        except EventTooLarge:
            self._refused = True
            self._held.clear()
            raise
        return messages

    def whole(self, piece: bytes) -> list[Message] | None:
        """The events of a piece of nothing but whole ones in their usual form; None, and nothing, for any other."""
        if self._held or self._at_start or self._after_cr or self._refused or b"\r" in piece:
            return None
        if len(piece) > self._max_event_bytes or not (piece.isascii() or _valid(piece) is piece):
            return None
        return _plain(piece)

    def _without_bom(self, piece: bytes) -> bytes:
        piece = bytes(self._held) + piece
        self._held.clear()
        if len(piece) < len(_BOM) and _BOM.startswith(piece):
            self._held += piece
            return b""
        self._at_start = False
        return piece.removeprefix(_BOM)

    def _with_lf(self, piece: bytes) -> bytes:
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return piece

    def _whole(self, piece: bytes) -> bytes:
        """Everything up to the last blank line; the rest is held."""
        held = self._held
        if held and held[-1] == _LF:
            # The blank line may lie across the seam: then its first half is searched again, and nothing else of what
            # is held.
            del held[-1]
            piece = b"\n" + piece
        end = piece.rfind(b"\n\n") + 2
        if end < 2:
            held += piece
            return b""
        whole = b"".join((held, piece[:end]))
        self._held = bytearray(piece[end:])
        return whole

    def _large(self, piece: bytes) -> list[Message]:
        """What ends in this piece while a large event is held, which becomes a message without a copy."""
        held = self._held
        seam = held[-1] == _LF and piece.startswith(b"\n")
        end = 0 if seam else piece.find(b"\n\n") + 1
        if not end and not seam:
            held += piece
            return []
        end += 1
        held += piece[:end]
        self._held = bytearray()
        messages = self._in_place(held)
        try:
            return messages + self._messages(self._whole(piece[end:]))
        except EventTooLarge as error:
            error.messages[:0] = messages
            raise

    def _in_place(self, block: bytearray) -> list[Message]:
        match = _NAMED.fullmatch(block) or _NAMELESS.fullmatch(block)
        if match is None or not _is_utf8(block):
            return self._messages(bytes(block))
        name = bytes(match[1]) if match.re is _NAMED else b""
        start, end = match.span(match.lastindex or 0)
        if len(block) - 2 > self._max_event_bytes:
            self._check(bytes(block[:_HEAD_BYTES]), len(block) - 2, end - start, [])
        del block[end:], block[:start]
        # Whoever takes it may edit it where it is; to everybody else it is bytes.
        return [(name, cast(bytes, block))]

    def _messages(self, blocks: bytes) -> list[Message]:
        if not blocks.isascii():
            blocks = _valid(blocks)
        if len(blocks) <= self._max_event_bytes:
            messages = _plain(blocks)
            if messages is not None:
                return messages
        return self._checked(blocks.split(b"\n\n"))

    def _checked(self, blocks: list[bytes]) -> list[Message]:
        messages: list[Message] = []
        for block in blocks:
            message = _interpret(block)
            if message is not None:
                if len(block) > self._max_event_bytes:
                    self._check(block[:_HEAD_BYTES], len(block), len(message[1]), messages)
                messages.append(message)
        return messages

    def _check(self, head: bytes, block_bytes: int, data_bytes: int, messages: list[Message]) -> None:
        limit = self._limit(head)
        if data_bytes > limit or block_bytes > limit + FRAMING_BYTES:
            raise EventTooLarge(limit, messages)

    def _check_held(self, messages: list[Message]) -> None:
        limit = self._limit(bytes(self._held[:_HEAD_BYTES]))
        if len(self._held) > limit + FRAMING_BYTES:
            raise EventTooLarge(limit, messages)

    def _limit(self, head: bytes) -> int:
        return self._max_terminal_bytes if _is_terminal(head) else self._max_event_bytes


def encode(event: bytes, data: bytes) -> bytes:
    """The frame of one event, its data on one line. `event` is a single line, `data` is JSON."""
    if b"\n" in data or b"\r" in data:
        # JSON has raw line ends between its tokens only.
        data = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"".join((b"event: ", event, b"\ndata: ", data, b"\n\n"))


def split(frame: bytes) -> Message:
    """What went into `encode`."""
    line, _, data = frame.partition(b"\ndata: ")
    return line[7:], data[:-2]


def _plain(blocks: bytes) -> list[Message] | None:
    """All events at once, if every block has a `data:` line alone, or every one an `event:` line before it; else None.

    Matches that are together as long as the whole leave nothing between them.
    """
    if blocks.startswith(b"event: "):
        named: list[Message] = _NAMED.findall(blocks)
        size = sum(map(len, chain.from_iterable(named))) + _NAMED_BYTES * len(named)
        return named if size == len(blocks) else None
    if blocks.startswith(b"data: "):
        nameless: list[bytes] = _NAMELESS.findall(blocks)
        size = sum(map(len, nameless)) + _NAMELESS_BYTES * len(nameless)
        return [(b"", data) for data in nameless] if size == len(blocks) else None
    return None


def _interpret(block: bytes) -> Message | None:
    """One event line by line; None for a block without data. A blank line can only be the first of a block."""
    name, values = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return (name, b"\n".join(values)) if values else None


def _valid(block: bytes) -> bytes:
    try:
        block.decode()
    except UnicodeDecodeError:
        return block.decode(errors="replace").encode()
    return block


def _is_utf8(block: bytearray) -> bool:
    """In slices: as one text it could take four times its size."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with memoryview(block) as view:
            for at in range(0, len(view), _SLICE_BYTES):
                decoder.decode(view[at : at + _SLICE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_terminal(head: bytes) -> bool:
    name = _NAME_LINE.search(head)
    if name is not None and name[1]:
        return _TERMINAL.fullmatch(name[1]) is not None
    data = _DATA_LINE.search(head)
    return data is not None and _TERMINAL_TYPE.search(head, data.end(), data.end() + _TYPE_BYTES) is not None
