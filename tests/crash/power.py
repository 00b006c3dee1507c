"""A disk that forgets what was not synced: what a power cut at any moment would leave, from the record of a process."""

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httptools

from tests.checker import Json, Objects, Stream

SECTOR = 512
"""What a disk writes whole, bytes."""

_HEAD = struct.Struct("=QQQQ")


@dataclass(frozen=True, slots=True)
class Operation:
    """One record of shim.c, see there."""

    name: str
    number: int
    offset: int
    data: bytes


def operations(record: Path) -> Iterator[Operation]:
    """The record of a process that is dead."""
    journal, at = record.read_bytes(), 0
    while at < len(journal):
        name, number, offset, size = _HEAD.unpack_from(journal, at)
        at += _HEAD.size
        yield Operation(chr(name), number, offset, journal[at : at + size])
        at += size


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[Operation] = field(default_factory=list)


def _apply(content: bytearray, change: Operation) -> None:
    if change.name == "T":
        del content[change.offset :]
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _sectors(write: Operation) -> Iterator[Operation]:
    """A write as the disk may do it: sector by sector, each or none."""
    start = 0
    while start < len(write.data):
        end = start + SECTOR - (write.offset + start) % SECTOR
        yield Operation("W", write.number, write.offset + start, write.data[start:end])
        start = end


class Disk:
    """Files as they are, and as a power cut would leave them."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._synced_names: dict[str, int] = {}

    def do(self, operation: Operation) -> None:
        """Follow one operation; those that are not about files change nothing."""
        match operation.name:
            case "N":
                if operation.number not in self._names.values():
                    self._files[operation.number] = _File()
                self._names[operation.data.decode()] = operation.number
            case "W" | "T":
                self._files[operation.number].pending.append(operation)
            case "S":
                file = self._files[operation.number]
                for change in file.pending:
                    _apply(file.synced, change)
                file.pending.clear()
            case "D":
                self._synced_names = dict(self._names)
            case "U":
                self._names.pop(operation.data.decode(), None)

    def now(self) -> dict[str, bytes]:
        """Every file by its name, as a process sees it: what a crash of the process alone leaves."""
        return {Path(name).name: self._content(self._files[number]) for name, number in self._names.items()}

    def cut(self) -> dict[str, bytes]:
        """What a power cut leaves of which nothing survived that was not synced, names neither."""
        return {Path(name).name: bytes(self._files[number].synced) for name, number in self._synced_names.items()}

    def torn(self, chance: random.Random) -> dict[str, bytes]:
        """What a power cut leaves of which sectors, lengths and names that were not synced survived by chance."""
        names = {**self._synced_names, **self._names} if chance.random() < 0.5 else self._synced_names
        share = chance.choice((0.05, 0.5, 0.95))
        return {Path(name).name: self._content(self._files[number], chance, share) for name, number in names.items()}

    def _content(self, file: _File, chance: random.Random | None = None, share: float = 1) -> bytes:
        content = bytearray(file.synced)
        for change in file.pending:
            parts = [change] if change.name == "T" or chance is None else _sectors(change)
            for part in parts:
                if chance is None or chance.random() < share:
                    _apply(content, part)
        return bytes(content)


class _Answers:
    """What one socket was sent, as far as it is answers of ours."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.objects: list[Json] = []
        self._body = b""
        self._is_stream = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """What is no answer is a request to the agent, or one end of something of the event loop's own."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._parser = None

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._is_stream = value.startswith(b"text/event-stream")

    def on_headers_complete(self) -> None:
        self._body = b""
        if self._is_stream:
            self.streams.append(Stream("a client"))

    def on_body(self, body: bytes) -> None:
        if self._is_stream:
            self.streams[-1].received += body
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._is_stream:
            self.streams[-1].whole = True
        elif b'"object":"response"' in self._body:
            self.objects.append(json.loads(self._body))


class Seen:
    """What all clients have been sent so far, by the id of the response: each stream from its first event on."""

    def __init__(self) -> None:
        self._answers: dict[int, _Answers] = {}

    def do(self, operation: Operation) -> None:
        """Follow one operation."""
        if operation.name == "C":
            self._answers.setdefault(operation.number, _Answers()).feed(operation.data)

    def by_id(self) -> dict[str, list[Stream | Objects]]:
        """Transcripts for the checker."""
        found: dict[str, list[Stream | Objects]] = {}
        for answers in self._answers.values():
            for stream in answers.streams:
                if events := stream.events():
                    found.setdefault(events[0]["response"]["id"], []).append(stream)
            for value in answers.objects:
                found.setdefault(value["id"], []).append(Objects("a client", [value]))
        return found
