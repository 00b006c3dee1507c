"""How JSON text is spelled: encoders agree on few ways, and text of one of them can be edited by its value.

That changes as little as an edit in the text, because what is not touched is written as it was, byte for byte; and it
takes a fraction of its time. Text that is spelled in no such way, as with a number like `1.50`, is edited in place.
"""

from collections.abc import Callable, Collection, Mapping
from json import JSONEncoder

import orjson

from respool.proxy.protocol import splice
from respool.proxy.protocol.jsons import Json, JsonObject, dumps_members


def _writer(encode: Callable[[Json], str]) -> Callable[[Json], bytes]:
    return lambda value: encode(value).encode()


# What was parsed has no circles.
_SPACED = _writer(JSONEncoder(check_circular=False).encode)
_SPACED_UTF8 = _writer(JSONEncoder(check_circular=False, ensure_ascii=False).encode)
_COMPACT = _writer(JSONEncoder(check_circular=False, separators=(",", ":")).encode)


def spelled_as(text: bytes, parsed: JsonObject, *values: Json) -> list[bytes] | None:
    """The text of each of the values, spelled as `text` is, which was parsed to `parsed`.

    None if `text` is nothing that a writer known here makes, as with a repeated key or a number in another format, or
    if that writer cannot write one of the values.
    """
    write = _likely_writer(text)
    try:
        return [write(value) for value in values] if write(parsed) == text else None
    except (TypeError, ValueError, RecursionError):
        return None


def _likely_writer(text: bytes) -> Callable[[Json], bytes]:
    colon = text.find(b":") + 1
    is_ascii = text.isascii()
    if text[colon : colon + 1] == b" ":
        return _SPACED if is_ascii else _SPACED_UTF8
    return _COMPACT if is_ascii and b"\\u" in text else orjson.dumps


def edit(text: bytes, parsed: JsonObject, put: Mapping[str, Json], drop: Collection[str] = ()) -> bytes:
    """`text`, which was parsed to `parsed`, with members set and removed. Raises ValueError as `splice.edit` does."""
    kept = {key: value for key, value in parsed.items() if key not in drop} if drop else parsed
    edited = spelled_as(text, parsed, {**kept, **put})
    return edited[0] if edited else splice.edit(text, put=dumps_members(put), drop=drop)
