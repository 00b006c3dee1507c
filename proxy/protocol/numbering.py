"""The number of an event, put into its text: without parsing it where agents put it where they usually do.

Source: CONTRACT section 3.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from respool.proxy.protocol import splice
from respool.proxy.protocol.events import BadEvent
from respool.proxy.protocol.jsons import dumps

# Three places where agents put the number. A quotation mark inside a JSON string is always escaped, so these can only
# match real keys, and their position (first members, or right before the brace that closes the whole) is the top level.
_NUMBER_FIRST = re.compile(rb'(\{\s*(?:"type"\s*:\s*"([^"\\]*)"\s*,\s*)?"sequence_number"\s*:\s*)(\d{1,18})(\s*[,}])')
_NUMBER_LAST = re.compile(rb'(,\s*"sequence_number"\s*:\s*)(\d{1,18})(\s*(?:,\s*"type"\s*:\s*"([^"\\]*)"\s*)?\}\s*)\Z')
_NUMBER = b'"sequence_number"'
_LAST_BYTES = 160


def renumber(name: bytes, data: bytes, seq: int) -> bytes:
    """`data` with `type` and `sequence_number` at its top level; untouched if they are there and right.

    Raises BadEvent if `data` is no JSON object.
    """
    quick = renumber_unparsed(name, data, seq)
    if quick is not None:
        return quick
    try:
        return splice.edit(data, put={"type": dumps(name.decode("utf-8", "replace")), "sequence_number": b"%d" % seq})
    except ValueError as error:
        raise BadEvent from error


def renumber_unparsed(name: bytes, data: bytes, seq: int) -> bytes | None:
    """`renumber` where the type is `name` and both stand where agents usually put them, else None.

    Looks at the first members and the last ones only: whether `data` is JSON between them is not its business.
    """
    form = form_of(name, data, seq)
    return form.renumber(data, seq) if form is not None else None


class Form(Protocol):
    """How an agent writes type and number of its events of one name; one event after the other is written alike."""

    def renumber(self, data: bytes, seq: int) -> bytes | None:
        """`data` with the number `seq`, untouched if that is there; None if it has another form."""

    def are_right(self, lines: bytes, count: int, seq: int) -> bool:
        """Whether `lines` are `count` events, one on each, which `renumber` would leave untouched, from `seq` on.

        False says nothing. A burst is looked at as a whole, in half the time that its events take one by one.
        """


def form_of(name: bytes, data: bytes, seq: int) -> Form | None:
    """The form of an event that is to have the number `seq`; None for one that must be parsed."""
    numbers = data.count(_NUMBER)
    if numbers > 1:
        # One inside of something else is no harm; of two beside each other parsers take the last.
        return None
    if not numbers:
        return _form_without_number(name, data)
    at = _NUMBER_FIRST.match(data)
    if at is not None:
        before, kind, number, behind = at.groups()
        ends = (b"}",) if kind == name else _type_last(name) if kind is None else ()
        return _NumberFirst(before, behind, int(number) - seq, ends)
    at = _NUMBER_LAST.search(data, max(0, len(data) - _LAST_BYTES))
    if at is not None:
        before, number, behind, kind = at.groups()
        begins = (b"",) if kind == name else _type_first(name) if kind is None else ()
        return _NumberLast(before, behind, int(number) - seq, begins)
    return None


def _form_without_number(name: bytes, data: bytes) -> Form | None:
    if data.endswith(_type_last(name)):
        return _NoNumber((b"{",), _type_last(name), is_first=True)
    if data.startswith(_type_first(name)):
        return _NoNumber(_type_first(name), (b"}",), is_first=False)
    return None


@dataclass(frozen=True, slots=True)
class _NumberFirst:
    """`before` the number and `behind` it; it is `offset` more than ours; the whole ends with one of `ends`."""

    before: bytes
    behind: bytes
    offset: int
    ends: tuple[bytes, ...]

    def renumber(self, data: bytes, seq: int) -> bytes | None:
        theirs = b"%b%d%b" % (self.before, seq + self.offset, self.behind)
        if not data.startswith(theirs) or not data.endswith(self.ends) or data.count(_NUMBER) != 1:
            return None
        if not self.offset:
            return data
        return b"%b%d%b%b" % (self.before, seq, self.behind, data[len(theirs) :])

    def are_right(self, lines: bytes, count: int, seq: int) -> bool:
        numbers = _numbers(b"^%b(\\d+)%b", self.before, self.behind)
        ends = sum(lines.count(end + b"\n") for end in self.ends) + lines.endswith(self.ends)
        return not self.offset and ends == count and _are_numbered(lines, numbers, count, seq)


@dataclass(frozen=True, slots=True)
class _NumberLast:
    """The same at the end of an event, which begins with one of `begins`."""

    before: bytes
    behind: bytes
    offset: int
    begins: tuple[bytes, ...]

    def renumber(self, data: bytes, seq: int) -> bytes | None:
        theirs = b"%b%d%b" % (self.before, seq + self.offset, self.behind)
        if not data.endswith(theirs) or not data.startswith(self.begins) or data.count(_NUMBER) != 1:
            return None
        if not self.offset:
            return data
        return b"%b%b%d%b" % (data[: -len(theirs)], self.before, seq, self.behind)

    def are_right(self, lines: bytes, count: int, seq: int) -> bool:
        numbers = _numbers(b"%b(\\d+)%b$", self.before, self.behind)
        begins = sum(lines.count(b"\n" + begin) for begin in self.begins) + lines.startswith(self.begins)
        return not self.offset and begins == count and _are_numbered(lines, numbers, count, seq)


@dataclass(frozen=True, slots=True)
class _NoNumber:
    """Without a number, which is put on the side where the type is not."""

    begins: tuple[bytes, ...]
    ends: tuple[bytes, ...]
    is_first: bool

    def renumber(self, data: bytes, seq: int) -> bytes | None:
        if not data.startswith(self.begins) or not data.endswith(self.ends) or _NUMBER in data:
            return None
        if self.is_first:
            return b'{"sequence_number":%d,%b' % (seq, data[1:])
        return b'%b,"sequence_number":%d}' % (data[:-1], seq)

    def are_right(self, lines: bytes, count: int, seq: int) -> bool:
        return False


@lru_cache(maxsize=256)
def _numbers(pattern: bytes, before: bytes, behind: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern % (re.escape(before), re.escape(behind)), re.MULTILINE)


def _are_numbered(lines: bytes, numbers: re.Pattern[bytes], count: int, seq: int) -> bool:
    if lines.count(b"\n") != count - 1 or lines.count(_NUMBER) != count:
        return False
    return numbers.findall(lines) == [b"%d" % number for number in range(seq, seq + count)]


@lru_cache(maxsize=256)
def _type_last(name: bytes) -> tuple[bytes, ...]:
    # The comma makes it a key: without it, it could be the end of a longer one that has a quotation mark in it.
    return b', "type": "%b"}' % name, b',"type":"%b"}' % name


@lru_cache(maxsize=256)
def _type_first(name: bytes) -> tuple[bytes, ...]:
    return b'{"type": "%b",' % name, b'{"type":"%b",' % name
