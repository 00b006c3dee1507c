"""Ids: their shapes, which are taken and which are made, and the partition that goes on from one to the next."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respool.proxy.protocol import ids
from respool.proxy.protocol.errors import WireError

PARTITION = "0123456789abcdef00"
ENTROPY = "A" * 32
WHOLE = PARTITION + ENTROPY
OLD = ENTROPY + "0123456789abcdef"

entropies = st.binary(min_size=ids.ENTROPY_BYTES, max_size=ids.ENTROPY_BYTES)


@settings(max_examples=30)
@given(entropies)
def test_a_minted_id_has_the_shape_of_the_platform(entropy: bytes) -> None:
    minted = ids.mint("caresp", entropy)
    assert re.fullmatch(r"caresp_[0-9a-f]{16}00[A-Za-z0-9]{32}", minted)
    assert ids.check_given(minted) == minted
    assert ids.is_well_formed(minted, "caresp")


@settings(max_examples=30)
@given(entropies)
def test_a_minted_id_keeps_the_partition_of_the_turn_before(entropy: bytes) -> None:
    minted = ids.mint("resp", entropy, ids.partition_of(f"caresp_{WHOLE}"))
    assert re.fullmatch(rf"resp_{PARTITION}[A-Za-z0-9]{{32}}", minted)
    assert ids.partition_of(minted) == PARTITION


def test_ids_of_other_entropy_differ() -> None:
    entropy = bytes(range(ids.ENTROPY_BYTES))
    minted = {ids.mint("r", entropy[at:] + entropy[:at]) for at in range(ids.ENTROPY_BYTES)}
    assert len(minted) == ids.ENTROPY_BYTES


@pytest.mark.parametrize(
    ("any_id", "partition"),
    [
        (f"caresp_{WHOLE}", PARTITION),
        (f"conv_{WHOLE}", PARTITION),
        (f"caresp_{OLD}", "0123456789abcdef00"),
        (f"caresp_{WHOLE}x", None),
        (f"caresp_{WHOLE[1:]}", None),
        (WHOLE, None),
        ("conv_1", None),
        ("", None),
        (None, None),
        # It becomes part of a path and of a header.
        (f"conv_/{WHOLE[1:]}", None),
        (f"conv_\r\nx:{WHOLE[4:]}", None),
        (f"conv_{WHOLE[:-1]}\n", None),
        (f"conv_é{WHOLE[1:]}", None),
        (f"conv_{OLD[:-1]} ", None),
    ],
)
def test_the_partition_of_an_id(any_id: str | None, partition: str | None) -> None:
    assert ids.partition_of(any_id) == partition


@pytest.mark.parametrize(
    "given_id",
    [f"caresp_{WHOLE}", f"caresp_{OLD}", f"resp_{WHOLE}", f"anything9_{'z' * 50}"],
)
def test_a_chosen_id_of_the_right_length_is_taken_with_any_prefix(given_id: str) -> None:
    assert ids.check_given(given_id) == given_id


@pytest.mark.parametrize(
    "given_id",
    [
        *("", "x", "resp_1", WHOLE, f"_{WHOLE}", f"caresp_{WHOLE}0", f"caresp_{WHOLE[1:]}", f"caresp_{WHOLE}\n"),
        *(f"caresp_{WHOLE[1:]}-", f"caresp_{WHOLE[1:]}é", f"ca resp_{WHOLE}", f"a_b_{WHOLE}", f"caresp_{'٣' * 50}"),
    ],
)
def test_a_chosen_id_of_another_shape_is_refused(given_id: str) -> None:
    with pytest.raises(WireError) as caught:
        ids.check_given(given_id)
    error = caught.value
    assert (error.http_status, error.code, error.param) == (400, "invalid_request", "response_id")
    assert error.message == (
        "response_id must be in format caresp_<18-char partition key><32-char alphanumeric entropy>"
    )


@pytest.mark.parametrize(
    ("response_id", "well_formed"),
    [
        (f"caresp_{WHOLE}", True),
        (f"caresp_{OLD}", True),
        (f"own_{WHOLE}", True),
        (f"other_{WHOLE}", False),
        ("resp_68e9f2", True),
        ("resp_a-b_c", True),
        (f"resp_{WHOLE}", True),
        ("resp_", False),
        ("resp_a/b", False),
        (f"resp_{'a' * 129}", False),
        ("caresp_short", False),
        ("own_short", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_which_ids_a_response_could_have(response_id: str, well_formed: bool) -> None:
    assert ids.is_well_formed(response_id, "own") is well_formed


def test_the_error_for_a_malformed_previous_response() -> None:
    error = ids.malformed_previous()
    assert (error.http_status, error.code, error.param, error.message) == (
        *(400, "invalid_parameters", "previous_response_id"),
        "Malformed identifier.",
    )


@settings(max_examples=30)
@given(st.text(), st.lists(st.text() | st.integers(), max_size=3))
def test_a_derived_id_is_always_the_same_for_the_same_place(response_id: str, what: list[str | int]) -> None:
    derived = ids.derive("msg", response_id, *what)
    assert derived == ids.derive("msg", response_id, *what)
    assert re.fullmatch(r"msg_[A-Za-z0-9]{50}", derived)


def test_derived_ids_differ_by_response_and_place_and_share_the_partition() -> None:
    places = [(f"caresp_{PARTITION}{letter * 32}", what, at) for letter in "ab" for what in "xy" for at in range(50)]
    derived = {ids.derive("msg", *place) for place in places}
    assert len(derived) == len(places)
    assert {ids.partition_of(one) for one in derived} == {PARTITION}
