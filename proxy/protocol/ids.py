"""Shapes of response ids: checked, and minted from entropy that is handed in.

`caresp_` + 18 characters of partition + 32 of entropy; an older form has 48 characters with the partition last.
Source: CONTRACT section 6, and the id rules of Azure's agent server.
"""

import hashlib
import re
import string

from respool.proxy.protocol.errors import WireError, invalid

_ALPHABET = (string.ascii_letters + string.digits).encode()
_LETTER_OF = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_PARTITION = 18
_ENTROPY = 32
_OLD_PARTITION = 16
_LENGTHS = (_PARTITION + _ENTROPY, _OLD_PARTITION + _ENTROPY)
ENTROPY_BYTES = 8 + _ENTROPY

_GIVEN = re.compile(r"[A-Za-z0-9]+_([A-Za-z0-9]+)")
_FOREIGN = re.compile(r"resp_[A-Za-z0-9_-]{1,128}")


def mint(prefix: str, entropy: bytes, partition: str | None = None) -> str:
    """A new id, from ENTROPY_BYTES random bytes; a given partition keeps responses of one conversation together."""
    return f"{prefix}_{partition or entropy[:8].hex() + '00'}{_letters(entropy[8:])}"


def derive(prefix: str, response_id: str, *what: object) -> str:
    """An id that is always the same for the same response and place: for items that came without one."""
    digest = hashlib.shake_256("\0".join([response_id, *map(str, what)]).encode("utf-8", "replace")).digest(_ENTROPY)
    return f"{prefix}_{partition_of(response_id) or '0' * _PARTITION}{_letters(digest)}"


def _letters(entropy: bytes) -> str:
    return entropy.translate(_LETTER_OF).decode()


def partition_of(any_id: str | None) -> str | None:
    """The partition in an id of our shape (a response's or a conversation's), else None."""
    _, _, body = (any_id or "").partition("_")
    # Clients choose the ids of conversations; what is minted from them stands in paths and headers.
    if not (body.isascii() and body.isalnum()):
        return None
    if len(body) == _LENGTHS[0]:
        return body[:_PARTITION]
    return body[-_OLD_PARTITION:] + "00" if len(body) == _LENGTHS[1] else None


def is_well_formed(response_id: str, prefix: str) -> bool:
    """Whether a response could have this id: ours, Azure's `caresp_`, or the `resp_` of the model APIs."""
    head, _, body = response_id.partition("_")
    return (head in (prefix, "caresp") and len(body) in _LENGTHS) or _FOREIGN.fullmatch(response_id) is not None


def check_given(response_id: str) -> str:
    """An id that a client or the platform chose for a new response. Raises WireError."""
    body = _GIVEN.fullmatch(response_id)
    if body is None or len(body[1]) not in _LENGTHS:
        shape = "response_id must be in format caresp_<18-char partition key><32-char alphanumeric entropy>"
        raise invalid(shape, "response_id", code="invalid_request")
    return response_id


def malformed_previous() -> WireError:
    """400 for a previous_response_id that no response can have."""
    return invalid("Malformed identifier.", "previous_response_id", code="invalid_parameters")
