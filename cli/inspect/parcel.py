"""The form in which responses leave a log and come into another: a line of JSON each, every byte kept.

    {"respool": 1, "head": {...}, "request": TEXT, "chunks": [{"at_ms": N, "events": [TEXT, ...]}], "result": TEXT}

`respool` is the version of the form. `head` has the fields of the store's Head, TEXT is a string, or {"base64": ...}
for bytes that are no UTF-8; `result` is null for a response that has not ended.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from respool.proxy.protocol.jsons import Json, JsonObject, dumps, loads
from respool.store.archive import Archive
from respool.store.base import Chunk, End, Head, Key
from respool.store.status import Status

VERSION = 1
_PAGE_BYTES = 1 << 20
_KNOWN = {field.name: field for field in fields(Head)}


class BadParcel(ValueError):
    """A line that is no response of this form."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Everything of one response."""

    head: Head
    request: bytes
    chunks: Sequence[Chunk]
    result: bytes | None

    @property
    def end(self) -> End | None:
        """The end as a store takes it."""
        if self.result is None or self.head.ended_at_ms is None:
            return None
        return End(self.head.status, self.result, self.head.ended_at_ms)


async def packed(archive: Archive, key: Key) -> Parcel:
    """One response as it is now. Raises NotFound."""
    head, result = await _standing(archive, key)
    chunks: list[Chunk] = []
    after = -1
    while after < head.last_seq:
        page = await archive.read(key, after, _PAGE_BYTES)
        # Of a response that is being written more may have come since; a chunk came as one.
        chunks += [chunk for chunk in page.chunks if chunk.last <= head.last_seq]
        after = page.chunks[-1].last
    return Parcel(head, await archive.request(key), chunks, result)


async def _standing(archive: Archive, key: Key) -> tuple[Head, bytes | None]:
    while True:
        head = await archive.head(key)
        result = await archive.result(key)
        if head.status.ended or result is None:
            return head, result  # else it has ended between the two


def written(parcel: Parcel) -> bytes:
    """The line of a response, without its line end."""
    head = {name: getattr(parcel.head, name) for name in _KNOWN if name != "key"}
    head["envelope"] = _text(parcel.head.envelope)
    value: JsonObject = {
        "respool": VERSION,
        "head": {"owner": parcel.head.key.owner, "id": parcel.head.key.id, **head},
        "request": _text(parcel.request),
        "chunks": [
            {"at_ms": chunk.at_ms, "events": [_text(event) for event in chunk.events()]} for chunk in parcel.chunks
        ],
        "result": None if parcel.result is None else _text(parcel.result),
    }
    return dumps(value)


def read(line: bytes) -> Parcel:
    """The response of a line. Raises BadParcel."""
    try:
        value = loads(line)
    except ValueError as error:
        raise BadParcel(f"no JSON: {error}") from None
    if not isinstance(value, dict) or "respool" not in value:
        raise BadParcel("no response that was exported by respool")
    if value["respool"] != VERSION:
        raise BadParcel(f"form {value['respool']}, and this respool knows form {VERSION}: use a newer one")
    try:
        parcel = Parcel(_head(value["head"]), _bytes(value["request"]), _chunks(value["chunks"]), None)
        if value["result"] is not None:
            parcel = replace(parcel, result=_bytes(value["result"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadParcel(f"not whole: {type(error).__name__}: {error}") from None
    return _checked(parcel)


def _checked(parcel: Parcel) -> Parcel:
    count = sum(len(chunk.sizes) for chunk in parcel.chunks)
    if count != parcel.head.last_seq + 1:
        raise BadParcel(f"not whole: it has {count} of {parcel.head.last_seq + 1} events")
    if parcel.head.status.ended != (parcel.end is not None):
        raise BadParcel(f"not whole: its status {parcel.head.status} does not fit its end")
    return parcel


def _head(value: JsonObject) -> Head:
    known = {name: value[name] for name in _KNOWN if name in value}
    known |= {"envelope": _bytes(value["envelope"]), "status": Status(value["status"])}
    key = Key(str(value["owner"]), str(value["id"]))
    head = Head(key=key, **known)
    for name in ("created_at", "epoch", "last_seq"):
        if type(getattr(head, name)) is not int:
            raise TypeError(f"{name} is no number")
    return head


def _chunks(values: Sequence[JsonObject]) -> list[Chunk]:
    chunks, first = [], 0
    for value in values:
        events = [_bytes(event) for event in value["events"]]
        if not events:
            raise ValueError("a chunk without an event")
        chunks.append(Chunk.of(first, events, int(value["at_ms"])))
        first += len(events)
    return chunks


def _text(data: bytes) -> Json:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes(value: Json) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return base64.b64decode(value["base64"], validate=True)
