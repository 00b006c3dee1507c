"""The body of a create: parsed, checked before anything is sent, and edited for the agent without touching the rest.

Sources: CONTRACT section 2; the sentences and `details[]` are those of Azure's agent server.
"""

import json
from collections.abc import Mapping

from respool.proxy.protocol import ids, spelling
from respool.proxy.protocol.errors import WireError, invalid
from respool.proxy.protocol.jsons import Json, JsonObject, loads

_MAX_PAIRS = 16
_MAX_KEY = 64
_MAX_VALUE = 512

# Beyond this it takes seconds and gigabytes to read what fits into 64 MiB.
_MOST_VALUES = 1_000_000

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "stream": ((bool,), "boolean"),
    "store": ((bool,), "boolean"),
    "background": ((bool,), "boolean"),
    "conversation": ((str, dict), "string or object"),
    "model": ((str,), "string"),
    "metadata": ((dict,), "object"),
    "stream_options": ((dict,), "object"),
    "previous_response_id": ((str,), "string"),
    "input": ((str, list), "string or array"),
}
_NAMES = {bool: "boolean", str: "string", dict: "object", list: "array", int: "integer", float: "number"}


def parse(raw: bytes) -> JsonObject:
    """The JSON object of a request body. Raises WireError with the words of the JSON parser."""
    if _values(raw) > _MOST_VALUES and _values(_without_strings(raw)) > _MOST_VALUES:
        raise invalid(f"request body must have at most {_MOST_VALUES} values", code="invalid_request")
    try:
        value = loads(raw)
    except ValueError:
        raise invalid(_parser_words(raw)) from None
    if not isinstance(value, dict):
        raise invalid("request body must be a JSON object", code="invalid_request")
    return value


def _values(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _without_strings(raw: bytes) -> bytes:
    """What stands between the strings of a JSON text."""
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * _MOST_VALUES:
        return plain
    return b"".join(plain.split(b'"')[::2])


def _parser_words(raw: bytes) -> str:
    try:
        json.loads(raw)
    except UnicodeDecodeError:
        return "The request body is not valid UTF-8."
    except (ValueError, RecursionError) as error:
        return str(error)
    return "The request body is not valid JSON."


def check(body: JsonObject) -> None:
    """Everything about a body that can be wrong on its own, in the order in which it is told. Raises WireError."""
    given = body.get("response_id")
    if given is not None:
        if not isinstance(given, str):
            raise _schema([_detail("response_id", "string", given)])
        ids.check_given(given)
    _check_agent_reference(body.get("agent_reference"))
    wrong = [
        _detail(key, words, body[key])
        for key, (types, words) in _TYPES.items()
        if body.get(key) is not None and not isinstance(body[key], types)
    ]
    if wrong:
        raise _schema(wrong)
    for key, value in (
        ("conversation", conversation_id(body)),
        ("previous_response_id", body.get("previous_response_id")),
    ):
        if value is not None and not _is_unicode(value):
            raise invalid(f"{key} is not valid Unicode", key, code="invalid_request")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise invalid("stream_options requires stream=true", "stream", code="invalid_mode")
    _check_metadata(body.get("metadata") or {})


def _schema(details: list[JsonObject]) -> WireError:
    return invalid("request body failed schema validation", code="invalid_request", details=details)


def _detail(key: str, expected: str, value: Json) -> JsonObject:
    message = f"Expected {expected}, got {_NAMES.get(type(value), 'null')}"
    return {"code": "invalid_value", "message": message, "param": f"$.{key}", "type": "invalid_request_error"}


def _is_unicode(text: str) -> bool:
    """JSON can spell half a surrogate pair, which is no character and can be stored nowhere."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_agent_reference(reference: Json) -> None:
    if reference is None:
        return
    for wrong, param, message in (
        (not isinstance(reference, dict), "agent_reference", "agent_reference must be an object"),
        (
            isinstance(reference, dict) and reference.get("type", "agent_reference") != "agent_reference",
            "agent_reference.type",
            "agent_reference.type must be 'agent_reference'",
        ),
        (
            isinstance(reference, dict) and not (isinstance(reference.get("name"), str) and reference["name"].strip()),
            "agent_reference.name",
            "agent_reference.name must be a non-empty string",
        ),
    ):
        if wrong:
            raise invalid(message, param, code="invalid_request")


def _check_metadata(metadata: JsonObject) -> None:
    if len(metadata) > _MAX_PAIRS:
        raise invalid(f"metadata must have at most {_MAX_PAIRS} key-value pairs", "metadata", code="invalid_request")
    for key, value in metadata.items():
        if len(key) > _MAX_KEY:
            message = f"metadata keys must be at most {_MAX_KEY} characters"
        elif isinstance(value, str) and len(value) > _MAX_VALUE:
            message = f"metadata values must be at most {_MAX_VALUE} characters"
        else:
            continue
        raise invalid(message, "metadata", code="invalid_request")


def conversation_id(body: JsonObject) -> str | None:
    """The id of the conversation, which comes as a string or as an object."""
    conversation = body.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    return conversation if isinstance(conversation, str) else None


def envelope_fields(body: JsonObject) -> JsonObject:
    """What the objects of a response carry of the request, where the agent leaves it out."""
    fields = {
        key: body[key]
        for key in ("model", "metadata", "previous_response_id", "agent_reference", "agent_session_id")
        if body.get(key) is not None
    }
    conversation = conversation_id(body)
    return {**fields, "conversation": {"id": conversation}} if conversation is not None else fields


def for_agent(
    raw: bytes, body: JsonObject, *, stream: bool, previous_id: str | None, model: str | None, metadata_id: str | None
) -> bytes:
    """The body as the agent gets it: `stream` forced, no `background`, the ids it knows; the rest keeps its text.

    `previous_id` is the agent's own id of the previous response, `model` fills a missing one, `metadata_id` is the id
    to offer as `metadata.response_id`, unless the client wrote one there itself.
    """
    put: JsonObject = {"stream": True} if stream else {}
    if previous_id is not None:
        put["previous_response_id"] = previous_id
    if model is not None and not body.get("model"):
        put["model"] = model
    if metadata_id is not None:
        metadata: Mapping[str, Json] = body.get("metadata") or {}
        if "response_id" not in metadata:
            put["metadata"] = {**metadata, "response_id": metadata_id}
    return spelling.edit(raw, body, put, drop=("background",))
