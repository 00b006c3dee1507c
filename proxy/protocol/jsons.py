"""JSON in and out of bytes: orjson, and the standard library for what orjson refuses or would round."""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, NoReturn

import orjson

Json = Any
JsonObject = dict[str, Any]

# Every integer of 18 digits fits into 64 bits; orjson makes a rounded float of one that does not fit.
_DIGITS = bytes(ord("0") if chr(byte).isdigit() else ord(" ") for byte in range(128)) + b" " * 128
_MANY_DIGITS = b"0" * 19
_SLICE_BYTES = 65_536
_MOST_OUT_OF_RANGE = 1000
_MOST_DIGITS = 4000  # the interpreter refuses to read or write integers of more than 4,300 digits


def loads(data: bytes) -> Json:
    """The value of UTF-8 encoded JSON; integers are exact, whatever their size.

    Raises ValueError for what is no JSON, for nesting that is deeper than the interpreter's stack, and for numbers of
    more than some 4,000 digits.
    """
    if _has_many_digits(data):
        return _loads_exact(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _loads_exact(data)


def dumps(value: Json) -> bytes:
    """One line of compact JSON, UTF-8; with lone surrogates or integers beyond 64 bits in it, ASCII.

    Raises ValueError or TypeError for what has no JSON.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        try:
            return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def dumps_members(members: Mapping[str, Json]) -> dict[str, bytes]:
    """The text of each value, see `dumps`."""
    return {key: dumps(value) for key, value in members.items()}


def _has_many_digits(data: bytes) -> bool:
    if len(data) <= _SLICE_BYTES:
        return _MANY_DIGITS in data.translate(_DIGITS)
    overlap = len(_MANY_DIGITS) - 1
    return any(
        _MANY_DIGITS in data[at : at + _SLICE_BYTES + overlap].translate(_DIGITS)
        for at in range(0, len(data), _SLICE_BYTES)
    )


def _loads_exact(data: bytes) -> Json:
    # Decoded here, because json.loads would guess UTF-16 or UTF-32 from zero bytes.
    try:
        return json.loads(data.decode(), parse_float=_Numbers().read, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class _Numbers:
    """The numbers of one text: floats, or where one would be infinite (1e400) the integer of the same value."""

    def __init__(self) -> None:
        self._out_of_range = 0

    def read(self, text: str) -> float | int:
        number = float(text)
        if isfinite(number):
            return number
        try:
            exact = Decimal(text)
        except InvalidOperation as error:
            raise ValueError("number out of range") from error
        self._out_of_range += 1
        # Each of them may take microseconds and kilobytes.
        if exact.adjusted() > _MOST_DIGITS or self._out_of_range > _MOST_OUT_OF_RANGE:
            raise ValueError("number out of range")
        return int(exact)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
