"""Events that look like the one before them, which needed no more than its number: nearly all that an agent sends do.

Source: CONTRACT section 3.
"""

from collections.abc import Sequence

from respool.proxy.protocol import numbering
from respool.proxy.protocol.sse import LARGE_BYTES, Message, encode

# Of fewer the whole is not worth a look.
_BURST = 8


class Alike:
    """The last event that was only numbered, and the frames of those like it. To `forget` behind any other."""

    __slots__ = ("_form", "_name")

    def __init__(self) -> None:
        self._name = b""
        self._form: numbering.Form | None = None

    def learn(self, name: bytes, data: bytes, seq: int) -> bytes | None:
        """The data of an event of which nothing but the number matters, with its number; None if it must be parsed."""
        form = numbering.form_of(name, data, seq)
        renumbered = form.renumber(data, seq) if form is not None else None
        if renumbered is not None:
            self._name, self._form = name, form
        return renumbered

    def forget(self) -> None:
        """What comes next is not to be taken for one like the last."""
        self._form = None

    def frame(self, name: bytes, data: bytes, seq: int) -> bytes | None:
        """The frame of an event that looks like the last; else None."""
        if self._form is None or name != self._name or len(data) > LARGE_BYTES:
            return None
        renumbered = self._form.renumber(data, seq)
        return encode(name, renumbered) if renumbered is not None else None

    def frames(self, messages: Sequence[Message], seq: int) -> list[bytes] | None:
        """The frames of events that all look like the last, from `seq` on; else None."""
        if (burst := self.burst(messages, seq)) is not None:
            return burst
        frames: list[bytes] = []
        for number, (name, data) in enumerate(messages, seq):
            frame = self.frame(name, data, number)
            if frame is None:
                return None
            frames.append(frame)
        return frames

    def burst(self, messages: Sequence[Message], seq: int) -> list[bytes] | None:
        """`frames` for many events at once, of which none needs even its number; else None, which says nothing."""
        if self._form is None or len(messages) < _BURST or any(name != self._name for name, _ in messages):
            return None
        lines = b"\n".join([data for _, data in messages])
        if len(lines) > LARGE_BYTES or b"\r" in lines or not self._form.are_right(lines, len(messages), seq):
            return None
        return [b"event: %b\ndata: %b\n\n" % message for message in messages]
