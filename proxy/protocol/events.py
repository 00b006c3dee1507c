"""One event: its name, its number, its data; how it is renumbered and stamped, and the events that we make ourselves.

An event is `bytes` of one line of JSON, and its name the `type` in it. Source: CONTRACT section 3.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple, Protocol

from respool.proxy.protocol import splice
from respool.proxy.protocol.jsons import Json, JsonObject, dumps, dumps_members, loads
from respool.proxy.protocol.spelling import spelled_as
from respool.store.status import Status

CREATED = b"response.created"
QUEUED = b"response.queued"
IN_PROGRESS = b"response.in_progress"
COMPLETED = b"response.completed"
FAILED = b"response.failed"
INCOMPLETE = b"response.incomplete"
ERROR = b"error"
ITEM_ADDED = b"response.output_item.added"
ITEM_DONE = b"response.output_item.done"
PART_ADDED = b"response.content_part.added"
PART_DONE = b"response.content_part.done"

TERMINAL = frozenset({COMPLETED, FAILED, INCOMPLETE})
LIFECYCLE = frozenset({CREATED, QUEUED, IN_PROGRESS}) | TERMINAL
STRUCTURE = frozenset({ITEM_ADDED, ITEM_DONE, PART_ADDED, PART_DONE})

_STATUS_OF = {
    CREATED: Status.IN_PROGRESS,
    QUEUED: Status.QUEUED,
    IN_PROGRESS: Status.IN_PROGRESS,
    COMPLETED: Status.COMPLETED,
    FAILED: Status.FAILED,
    INCOMPLETE: Status.INCOMPLETE,
}
_NAME_OF = {Status.CANCELLED: FAILED, **{status: name for name, status in _STATUS_OF.items() if name != CREATED}}

# Three places where agents put the number. A quotation mark inside a JSON string is always escaped, so these can only
# match real keys, and their position (first members, or right before the brace that closes the whole) is the top level.
_NUMBER_FIRST = re.compile(rb'(\{\s*(?:"type"\s*:\s*"([^"\\]*)"\s*,\s*)?"sequence_number"\s*:\s*)(\d{1,18})(\s*[,}])')
_NUMBER_LAST = re.compile(rb'(,\s*"sequence_number"\s*:\s*)(\d{1,18})(\s*(?:,\s*"type"\s*:\s*"([^"\\]*)"\s*)?\}\s*)\Z')
_NUMBER = b'"sequence_number"'
_LAST_BYTES = 160


class BadEvent(ValueError):
    """The agent sent an event that is not a JSON object."""

    def __str__(self) -> str:
        return self.__doc__ or ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every `response` object of one run carries, whatever the agent says.

    `fields` is JSON: id, object, created_at, background, store, and of the request model, metadata,
    previous_response_id, conversation ({"id"}), agent_reference and agent_session_id as far as they are known.
    `hidden_metadata` is a key of the metadata that we gave the agent and its echo must not show.
    """

    fields: JsonObject
    hidden_metadata: str | None = None

    FORCED = ("id", "object", "created_at", "background", "store", "previous_response_id")

    @property
    def id(self) -> str:
        """The id under which the client knows the response."""
        return str(self.fields["id"])

    def snapshot(self, status: Status, output: list[Json] | None = None, error: Json = None) -> JsonObject:
        """A response object of our own making."""
        return {**self.fields, "status": str(status), "error": error, "output": output or []}


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


def parse(data: bytes) -> JsonObject:
    """The JSON object of an event. Raises BadEvent."""
    try:
        value = loads(data)
    except ValueError as error:
        raise BadEvent from error
    if not isinstance(value, dict):
        raise BadEvent
    return value


class Stamped(NamedTuple):
    """The text of a lifecycle event, and that of the `response` in it."""

    data: bytes
    response: bytes


def stamp_response(data: bytes, parsed: JsonObject, envelope: Envelope, put: Mapping[str, Json]) -> Stamped:
    """A lifecycle event with the envelope (and `put`) laid over its `response`, everything else as it came.

    The items of its output get their stamps too. `parsed` is the value of `data`.
    """
    forced = {key: envelope.fields[key] for key in Envelope.FORCED if key in envelope.fields} | dict(put)
    response = parsed.get("response")
    if not isinstance(response, dict):
        made = dumps({"output": [], **envelope.fields, **forced})
        return Stamped(splice.edit(data, put={"response": made}), made)
    if "response_id" in response:
        forced["response_id"] = envelope.id
    metadata, hidden = response.get("metadata"), envelope.hidden_metadata
    if hidden is not None and isinstance(metadata, dict) and hidden in metadata:
        forced["metadata"] = {key: value for key, value in metadata.items() if key != hidden}
    stamped = _laid_over(response, envelope, forced)
    spelled = spelled_as(data, parsed, {**parsed, "response": stamped}, stamped)
    if spelled is not None:
        return Stamped(*spelled)
    data = _stamp_response_text(data, envelope, forced)
    return Stamped(data, response_of(data))


def _laid_over(response: JsonObject, envelope: Envelope, forced: JsonObject) -> JsonObject:
    stamped = dict(response)
    for key, value in envelope.fields.items():
        stamped.setdefault(key, value)
    stamped.update(forced)
    if isinstance(output := response.get("output"), list) and "output" not in forced:
        stamped["output"] = [_stamped(item, envelope) if isinstance(item, dict) else item for item in output]
    return stamped


def _stamp_response_text(data: bytes, envelope: Envelope, forced: JsonObject) -> bytes:
    stamp = partial(
        splice.edit,
        put=dumps_members(forced),
        default=dumps_members(envelope.fields),
        change={"output": partial(_stamp_output, envelope)},
    )
    return splice.edit(data, change={"response": stamp})


def _stamp_output(envelope: Envelope, text: bytes) -> bytes:
    """The items of an output, which may be none."""
    if text[:1] != b"[":
        return text
    return splice.replace(text, {at: _stamp(envelope, text[at.start : at.end]) for at in splice.elements(text)})


def stamp_item(data: bytes, parsed: JsonObject, envelope: Envelope) -> bytes:
    """An event with an `item`, which gets the response's id and, if it has none, the request's agent reference.

    `parsed` is the value of `data`.
    """
    item = parsed.get("item")
    if not isinstance(item, dict):
        return data
    spelled = spelled_as(data, parsed, {**parsed, "item": _stamped(item, envelope)})
    return spelled[0] if spelled else splice.edit(data, change={"item": partial(_stamp, envelope)})


def _stamp(envelope: Envelope, text: bytes) -> bytes:
    """An item; what is no object stays as it is."""
    if text[:1] != b"{":
        return text
    return splice.edit(text, put=dumps_members(_stamps(loads(text), envelope)))


def _stamped(item: JsonObject, envelope: Envelope) -> JsonObject:
    return {**item, **_stamps(item, envelope)}


def _stamps(item: JsonObject, envelope: Envelope) -> JsonObject:
    reference = envelope.fields.get("agent_reference")
    if reference is None or item.get("agent_reference") is not None:
        return {"response_id": envelope.id}
    return {"response_id": envelope.id, "agent_reference": reference}


def _member(text: bytes, key: str) -> splice.Span:
    """Where the value of the last member `key` stands, which is the one that parsers take."""
    return next(m.value for m in reversed(splice.members(text)) if m.key == key)


def response_of(data: bytes) -> bytes:
    """The `response` of a lifecycle event, as it stands in the text."""
    at = _member(data, "response")
    return data[at.start : at.end]


def rename(data: bytes, name: bytes) -> bytes:
    """The same event under another name."""
    return splice.edit(data, put={"type": dumps(name.decode())})


def lifecycle(name: bytes, response: JsonObject, seq: int) -> bytes:
    """A lifecycle event of our own making."""
    return dumps({"type": name.decode(), "sequence_number": seq, "response": response})


def error_event(code: str, message: str, param: str | None, seq: int) -> bytes:
    """The flat error event."""
    return dumps({"type": "error", "code": code, "message": message, "param": param, "sequence_number": seq})


def status_of(name: bytes) -> Status:
    """The status that a lifecycle event stands for (`response.failed` also stands for cancelled)."""
    return _STATUS_OF[name]


def name_of(status: Status) -> bytes:
    """The event that tells of a status. A cancel is told by `response.failed`: there is no event of its own."""
    return _NAME_OF[status]
