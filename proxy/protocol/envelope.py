"""What every `response` object of a run carries, and how it is laid over what the agent says.

Source: CONTRACT section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from respool.proxy.protocol import splice
from respool.proxy.protocol.events import response_of
from respool.proxy.protocol.jsons import Json, JsonObject, dumps, dumps_members, loads
from respool.proxy.protocol.spelling import spelled_as
from respool.store.status import Status


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
