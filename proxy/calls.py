"""What the agent is called with: made from the POST, and made again for a run that waited longer than its process.

The headers of users are never stored, but for the few that the agent needs and that are no secret. A run is only called
later with everything that it would have been called with at once: a POST with credentials, or with a header of which
nobody knows whether it matters, is not kept. Source: CONTRACT section 8.
"""

from collections.abc import Iterable

from respool.proxy.protocol import body as bodies
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.jsons import JsonObject, dumps, loads
from respool.proxy.protocol.rules import Plan
from respool.proxy.reply import Header
from respool.proxy.run import Call
from respool.proxy.settings import Settings
from respool.store.base import Key, NotFound, Store

_OFFERED = b"x-agent-response-id"

# What the agent needs to know and what is no secret, beside the headers of owners.
_KEPT = frozenset({b"accept", b"accept-language", b"content-type", b"idempotency-key", b"openai-beta"})
_KEPT_BEGINNING = b"x-agent-"

# What tells of the connection, of the client's software, or of one attempt: nothing that an answer depends on.
_PASSING = frozenset(
    {
        b"accept-encoding",
        b"baggage",
        b"cache-control",
        b"connection",
        b"content-length",
        b"dnt",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"last-event-id",
        b"origin",
        b"pragma",
        b"priority",
        b"referer",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"user-agent",
        b"via",
        b"x-ms-client-request-id",
        b"x-real-ip",
        b"x-request-id",
        b"x-respool-background",
    }
)
_PASSING_BEGINNINGS = (b"sec-fetch-", b"sec-ch-", b"x-envoy-", b"x-forwarded-", b"x-stainless-")
_SECRET = (b"auth", b"cookie", b"credential", b"key", b"password", b"secret", b"signature", b"token")


def envelope_of(settings: Settings, body: JsonObject, plan: Plan, response_id: str, created_at: int) -> Envelope:
    """What every object of the response will carry; `created_at` in unix seconds."""
    fields: JsonObject = {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "background": plan.background,
        "store": plan.store,
        **bodies.envelope_fields(body),
    }
    if not fields.get("model") and settings.default_model is not None:
        fields["model"] = settings.default_model
    return envelope_again(settings, fields)


def envelope_again(settings: Settings, fields: JsonObject) -> Envelope:
    """The envelope whose fields were stored."""
    injected = _metadata_id(settings, fields, fields["id"]) is not None
    return Envelope(fields, "response_id" if injected else None)


def _metadata_id(settings: Settings, body: JsonObject, response_id: str) -> str | None:
    """The id to offer in the metadata, unless the client wrote one there."""
    if settings.offer_id not in ("metadata", "both") or "response_id" in (body.get("metadata") or {}):
        return None
    return response_id


def call_of(
    settings: Settings,
    raw: bytes,
    body: JsonObject,
    plan: Plan,
    response_id: str,
    previous_id: str | None,
    headers: Iterable[Header],
    query: bytes,
) -> Call:
    """The POST as the agent gets it: `raw` and `body` are what the client sent, as bytes and parsed.

    `previous_id` is the agent's own id of the previous response, None if it has none.
    """
    forced = settings.force_stream == "always" or plan.stream or plan.background
    edited = bodies.for_agent(
        raw,
        body,
        stream=forced,
        previous_id=previous_id,
        model=settings.default_model,
        metadata_id=_metadata_id(settings, body, response_id),
    )
    headers = tuple(headers)
    if settings.offer_id in ("header", "both"):
        headers = (*((k, v) for k, v in headers if k.lower() != _OFFERED), (_OFFERED, response_id.encode()))
    return Call(edited, headers, query, previous_id)


def kept(settings: Settings, call: Call) -> bytes | None:
    """What the store may keep of a call beside the request; None if that would not be all that matters."""
    owners = {name.encode() for name in settings.owner_headers}
    found: list[list[str]] = []
    for name, value in call.headers:
        name = name.lower()
        if _is_kept(name, owners):
            found.append([name.decode("latin-1"), value.decode("latin-1")])
        elif not _is_passing(name):
            return None
    if any(pair.partition(b"=")[0] != b"api-version" for pair in call.query.split(b"&") if pair):
        return None
    return dumps({"headers": found, "query": call.query.decode("latin-1"), "previous_id": call.previous_id})


def _is_kept(name: bytes, owners: Iterable[bytes]) -> bool:
    if name in owners or name in _KEPT:
        return True
    return name.startswith(_KEPT_BEGINNING) and not any(word in name for word in _SECRET)


def _is_passing(name: bytes) -> bool:
    return name in _PASSING or name.startswith(_PASSING_BEGINNINGS)


async def recalled(settings: Settings, store: Store, key: Key, plan: Plan) -> Call:
    """The call of a run that waited longer than the process that took its POST. Raises NotFound, StorageFailed."""
    raw, remembered = await store.request(key), await store.call(key)
    if remembered is None:
        raise NotFound
    known = loads(remembered)
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in known["headers"]]
    query = known["query"].encode("latin-1")
    return call_of(settings, raw, bodies.parse(raw), plan, key.id, known["previous_id"], headers, query)
