"""JSON in and out: exact where orjson is not, and a ValueError for everything else."""

import json

import pytest

from respool.proxy.protocol.jsons import Json, dumps, loads


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":[1,-2,0.5,1e300,true,null,"x"]}', {"a": [1, -2, 0.5, 1e300, True, None, "x"]}),
        ('["\\ud800","\\udc00 x","é😀"]', ["\ud800", "\udc00 x", "é😀"]),
        ("[18446744073709551615,18446744073709551616]", [2**64 - 1, 2**64]),
        ("[-9223372036854775808,-9223372036854775809]", [-(2**63), -(2**63) - 1]),
        (
            "[123456789012345678901234567890,0.1234567890123456789]",
            [123456789012345678901234567890, 0.1234567890123456789],
        ),
        ("[1e400,-1.5e400]", [10**400, -15 * 10**399]),
        ('{"id":"0000000000000000000000000001"}', {"id": "0000000000000000000000000001"}),
    ],
)
def test_json_survives_a_round_trip(text: str, value: Json) -> None:
    assert loads(text.encode()) == value
    line = dumps(value)
    assert loads(line) == json.loads(line.decode()) == value
    assert b"\n" not in line
    assert b" " not in line.replace(b"\\udc00 x", b"")


@pytest.mark.parametrize(
    "data",
    [b"", b"NaN", b"[Infinity]", b"{", b"\xff", b"\xef\xbb\xbf{}", b"1\x000\x00", b"[1e999999999]", b"[" * 100_000],
)
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        loads(data)
