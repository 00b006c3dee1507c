"""Edits of JSON text in place: what is not touched keeps its bytes (key order, spaces, number formats).

Only the structure is scanned; strings are skipped over whole. The text is taken to be valid JSON: a scan that finds it
torn raises ValueError, but it is no validator.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# What is inside a nested value up to its next bracket; strings are skipped over whole.
_INSIDE = rb'[^"{}\[\]]*+(?:%b[^"{}\[\]]*+)*+' % _STRING
# A string, a number or a word, or an array or object without another in it; else the bracket with which one begins.
_VALUE = rb'(%b|[^\s{}\[\],:"]++|[{\[]%b[}\]]|([{\[]))' % (_STRING, _INSIDE)
_BRACKET = re.compile(_INSIDE + rb"([{}\[\]])", re.DOTALL)
_MEMBER = re.compile(rb"[\s,]*+(?:(%b)\s*+:\s*+%b|\})" % (_STRING, _VALUE), re.DOTALL)
_ELEMENT = re.compile(rb"[\s,]*+(?:%b|\])" % _VALUE, re.DOTALL)
_OPENING = {bracket: re.compile(rb"\s*+\%b" % bracket) for bracket in (b"{", b"[")}


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
    at = _open(text, start, b"{")
    found: list[Member] = []
    match = _MEMBER.match
    # Flat, because every event that is looked into comes through here, with a dozen members and more.
    while (member := match(text, at)) is not None:
        key = member[1]
        if key is None:
            return found, member.end() - 1
        begin, at = member.span(2)
        if member[3] is not None:
            at = _closing(text, at)
        found.append(Member(_key(key), member.start(1), Span(begin, at)))
    raise ValueError("torn JSON")


def _open(text: bytes, start: int, bracket: bytes) -> int:
    """Where the inside of the object or the array begins."""
    opening = _OPENING[bracket].match(text, start)
    if opening is None:
        raise ValueError("not the kind of JSON that was looked for")
    return opening.end()


def _next(what: re.Pattern[bytes], text: bytes, at: int) -> re.Match[bytes]:
    found = what.match(text, at)
    if found is None:
        raise ValueError("torn JSON")
    return found


def _value(text: bytes, match: re.Match[bytes], group: int) -> Span:
    """The value that was matched, to its end if only its bracket was."""
    start, end = match.span(group)
    return Span(start, end if match[group + 1] is None else _closing(text, end))


def _closing(text: bytes, at: int) -> int:
    depth = 1
    while depth:
        bracket = _next(_BRACKET, text, at)
        at = bracket.end()
        depth += 1 if bracket[1] in (b"{", b"[") else -1
    return at


def _key(quoted: bytes) -> str:
    if b"\\" in quoted:
        return str(json.loads(quoted))
    return quoted[1:-1].decode("utf-8", "replace")


def elements(text: bytes, start: int = 0) -> list[Span]:
    """The elements of the array that begins at or after `start`. Raises ValueError if there is none, or it is torn."""
    at = _open(text, start, b"[")
    found: list[Span] = []
    while True:
        element = _next(_ELEMENT, text, at)
        if element[1] is None:
            return found
        value = _value(text, element, 1)
        found.append(value)
        at = value.end


def edit(
    text: bytes,
    *,
    put: Mapping[str, bytes] | None = None,
    default: Mapping[str, bytes] | None = None,
    drop: Collection[str] = (),
    change: Mapping[str, Callable[[bytes], bytes]] | None = None,
) -> bytes:
    """The object `text` with members set (`put`), added where absent (`default`) and removed (`drop`).

    `change` makes the new text of a value from the old. Values are raw JSON; the keys that are added are plain ASCII.
    Of a repeated key the last one counts, as in every common parser: all the others are removed when it is put, and
    left as they are when it is changed. Raises ValueError if `text` is not one object.
    """
    put, change = put or {}, change or {}
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
        elif key in change and last[key] is member:
            changes.append((*member.value, change[key](text[member.value.start : member.value.end])))
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
