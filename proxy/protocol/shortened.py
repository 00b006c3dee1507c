"""A large event with its long strings taken out: parsed and edited as the small one that it then is.

An event of many megabytes is nearly always a few long texts. Every step that copies it would cost its size again; so
all steps see a short text with marks in it, and at the end the strings are put back, where possible without a copy.
"""

import re
from itertools import count
from zlib import crc32

_LONG_BYTES = 128 * 1024
_IN_PLACE = 16
"""With more long strings than this, moving them within the event takes longer than copying it."""

# A string that every parser accepts: what is none stays in the text, and fails where it is parsed.
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')


class Shortened:
    """`text` is `data` with a mark, itself a string, for each of its long strings.

    Marks of equal strings in equal places are equal. `data` belongs to this object from now on.
    """

    def __init__(self, data: bytes | bytearray, apart_from: bytes = b"") -> None:
        """`apart_from` is what else will stand in the edited text: no mark looks like anything there."""
        self._data = data
        self._spans = [m.span() for m in _STRING.finditer(data) if m.end() - m.start() > _LONG_BYTES]
        salt = next(b"~%d~" % n for n in count() if b"~%d~" % n not in data and b"~%d~" % n not in apart_from)
        self._marks = [self._mark(salt, at) for at in range(len(self._spans))]
        self._pattern = re.compile(b"|".join(map(re.escape, self._marks)) or rb"(?!)")
        self.text = self._with_marks()

    def _mark(self, salt: bytes, at: int) -> bytes:
        start, end = self._spans[at]
        with memoryview(self._data) as view, view[start:end] as string:
            return b'"%b%d:%d:%08x"' % (salt, at, end - start, crc32(string))

    def _with_marks(self) -> bytes:
        parts: list[bytes] = []
        at = 0
        for (start, end), mark in zip(self._spans, self._marks, strict=True):
            parts += (bytes(self._data[at:start]), mark)
            at = end
        return b"".join((*parts, bytes(self._data[at:])))

    def has_all(self, text: bytes) -> bool:
        """Whether every string has its mark in `text`."""
        return len(self._pattern.findall(text)) == len(self._marks)

    def whole(self, texts: list[bytes]) -> list[bytes]:
        """`texts` with the strings in the places of their marks; to be called once.

        One of them may be a bytearray, which is the event itself, edited in place.
        """
        if not self._marks:
            return texts
        marked = [at for at, text in enumerate(texts) if self._pattern.search(text)]
        return [
            self._edited(text) if at in marked[-1:] else self.copied(text) if at in marked else text
            for at, text in enumerate(texts)
        ]

    def _edited(self, text: bytes) -> bytes:
        found = list(self._pattern.finditer(text))
        data = self._data
        if not isinstance(data, bytearray) or len(found) > _IN_PLACE or [m[0] for m in found] != self._marks:
            return self.copied(text)
        # From the end, so that the spans before stay right.
        edges = [0, *(edge for m in found for edge in m.span()), len(text)]
        places = [0, *(edge for span in self._spans for edge in span), len(data)]
        for at in range(len(edges) - 2, -1, -2):
            data[places[at] : places[at + 1]] = text[edges[at] : edges[at + 1]]
        # From here on it is never changed: bytes to everybody.
        return data  # type: ignore[return-value]

    def copied(self, text: bytes) -> bytes:
        """A copy of one text with the strings in it; not behind `whole`."""
        parts: list[bytes | memoryview] = []
        at = 0
        with memoryview(self._data) as view:
            for m in self._pattern.finditer(text):
                start, end = self._spans[self._marks.index(m[0])]
                parts += (text[at : m.start()], view[start:end])
                at = m.end()
            whole = b"".join((*parts, text[at:]))
            del parts
        return whole
