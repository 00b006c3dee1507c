"""Edits of JSON text in place: what is not touched keeps its bytes (key order, spaces, number formats).

Only the structure is scanned; strings are skipped over whole. The text is taken to be valid JSON: a scan that finds it
torn raises ValueError, but it is no validator.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

# The last of the alternatives is a string that does not end.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]++|"', re.DOTALL)
# What is inside a nested value up to its next bracket; strings are skipped over whole.
_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL)
_NO_VALUE = frozenset({b"}", b"]", b",", b":", b'"'})


class Span(NamedTuple):
    """Where a value stands in the text: text[start:end]."""

    start: int
    end: int


class Member(NamedTuple):
    """A member of an object: its key, where it begins, and where its value stands."""

    key: str
    at: int
    value: Span


def members(text: bytes, start: int = 0) -> list[Member]:
    """The members of the object that begins at or after `start`. Raises ValueError if there is none, or it is torn."""
    return _members(text, start)[0]


def _members(text: bytes, start: int) -> tuple[list[Member], int]:
    """The members, and where the object's last brace is."""
    tokens = _Tokens(text, start)
    if tokens.next().group() != b"{":
        raise ValueError("not a JSON object")
    found: list[Member] = []
    while True:
        token = tokens.next()
        key = token.group()
        if key == b"}":
            return found, token.start()
        if key == b",":
            continue
        if len(key) < 2 or key[0] != 0x22 or tokens.next().group() != b":":
            raise ValueError("torn JSON object")
        found.append(Member(_key(key), token.start(), tokens.value(tokens.next())))


def _key(quoted: bytes) -> str:
    if b"\\" in quoted:
        return str(json.loads(quoted))
    return quoted[1:-1].decode("utf-8", "replace")


def elements(text: bytes, start: int = 0) -> list[Span]:
    """The elements of the array that begins at or after `start`. Raises ValueError if there is none, or it is torn."""
    tokens = _Tokens(text, start)
    if tokens.next().group() != b"[":
        raise ValueError("not a JSON array")
    found: list[Span] = []
    while (token := tokens.next()).group() != b"]":
        if token.group() != b",":
            found.append(tokens.value(token))
    return found


def edit(
    text: bytes,
    *,
    put: Mapping[str, bytes] | None = None,
    default: Mapping[str, bytes] | None = None,
    drop: Collection[str] = (),
) -> bytes:
    """The object `text` with members set (`put`), added where absent (`default`) and removed (`drop`).

    Values are raw JSON; the keys that are added are plain ASCII. Of a repeated key the last one counts, as in every
    common parser, so all the others are removed when it is touched. Raises ValueError if `text` is not one object.
    """
    put = put or {}
    found, close = _members(text, 0)
    if text[close + 1 :].strip():
        raise ValueError("more than a JSON object")
    last = {member.key: member for member in found}
    changes: list[tuple[int, int, bytes]] = []
    kept = 0
    for index, member in enumerate(found):
        key = member.key
        if key in drop or (key in put and last[key] is not member):
            changes.append((*_with_comma(found, index, kept > 0), b""))
            continue
        kept += 1
        if key in put and text[member.value.start : member.value.end] != put[key]:
            changes.append((*member.value, put[key]))
    added = {
        **{k: v for k, v in (default or {}).items() if k not in last},
        **{k: v for k, v in put.items() if k not in last},
    }
    if added:
        tail = b",".join(b'"%b":%b' % (key.encode(), value) for key, value in added.items())
        changes.append((close, close, b"," + tail if kept else tail))
    return _apply(text, changes)


def replace(text: bytes, spans: Mapping[Span, bytes]) -> bytes:
    """`text` with the values at `spans`, which do not overlap, replaced."""
    return _apply(text, sorted((span.start, span.end, new) for span, new in spans.items()))


def _apply(text: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    if not changes:
        return text
    parts: list[bytes] = []
    at = 0
    for start, end, new in changes:
        parts += (text[at:start], new)
        at = end
    return b"".join((*parts, text[at:]))


def _with_comma(found: list[Member], index: int, after_another: bool) -> tuple[int, int]:
    """What goes with a member that is removed: the comma before it, or as first the one behind it."""
    if after_another:
        return found[index - 1].value.end, found[index].value.end
    if index + 1 < len(found):
        return found[index].at, found[index + 1].at
    return found[index].at, found[index].value.end


class _Tokens:
    """The tokens of a text one by one; nested values are skipped over. Raises ValueError where the text ends early."""

    def __init__(self, text: bytes, start: int) -> None:
        self._text = text
        self._tokens = _TOKEN.finditer(text, start)

    def next(self) -> re.Match[bytes]:
        token = next(self._tokens, None)
        if token is None:
            raise ValueError("torn JSON")
        return token

    def value(self, first: re.Match[bytes]) -> Span:
        """The value that begins with `first`; the next token is the one behind it."""
        kind = first.group()
        if kind in _NO_VALUE:
            raise ValueError("torn JSON value")
        if kind not in (b"{", b"["):
            return Span(*first.span())
        end = self._closing(first.end())
        self._tokens = _TOKEN.finditer(self._text, end)
        return Span(first.start(), end)

    def _closing(self, at: int) -> int:
        depth = 1
        while depth:
            bracket = _BRACKET.match(self._text, at)
            if bracket is None:
                raise ValueError("torn JSON value")
            at = bracket.end()
            depth += 1 if bracket[1] in (b"{", b"[") else -1
        return at
