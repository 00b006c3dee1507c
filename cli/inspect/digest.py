"""One response with all that its log tells of it: what `show` draws, and gives as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from respool.cli.inspect.entry import created_ms, duration_ms, model_of
from respool.cli.inspect.source import Source
from respool.proxy.protocol.jsons import Json, JsonObject, loads
from respool.proxy.protocol.timeline import Timeline
from respool.store.base import Head, Key


@dataclass(frozen=True, slots=True)
class Digest:
    """`request` is the parsed body of the POST, or None where it is not shown; then `input` has the items of it.

    `has_times` tells whether the times in the timeline are those of the log.
    """

    head: Head
    model: str | None
    duration_ms: int | None
    timeline: Timeline
    has_times: bool
    request: Json
    input: Json
    response: JsonObject

    @property
    def first_output_ms(self) -> int | None:
        """From the POST to the first token."""
        at_ms = self.timeline.first_output_ms
        return None if at_ms is None or not self.has_times else max(0, at_ms - created_ms(self.head))

    def json(self) -> JsonObject:
        """The stable shape: see docs/json.md."""
        head, line = self.head, self.timeline
        silence = line.silence
        times = {
            "steps": [asdict(step) for step in line.steps],
            "items": [asdict(line.items[index]) for index in sorted(line.items)],
            "longest_silence": None if silence is None else {**asdict(silence), "ms": silence.ms},
            "first_output_ms": self.first_output_ms,
        }
        return {
            "id": head.key.id,
            "owner": head.key.owner,
            "status": str(head.status),
            "model": self.model,
            "background": head.background,
            "stream": head.stream,
            "conversation": head.conversation,
            "previous_response_id": head.previous_id,
            "agent_id": head.agent_id,
            "session": head.session,
            "cancel_requested": head.cancel_requested,
            "created_at_ms": created_ms(head),
            "ended_at_ms": head.ended_at_ms,
            "duration_ms": self.duration_ms,
            "events": line.events,
            "bytes": line.size,
            "event_types": dict(line.types.most_common()),
            **(times if self.has_times else dict.fromkeys(times)),
            "request": self.request,
            "response": self.response,
        }


async def digest(source: Source, head: Head, now_ms: int) -> Digest:
    """Read everything of one response. Raises NotFound, Trouble."""
    timeline = await timeline_of(source, head.key)
    head = await source.head(head.key)
    body = await source.request(head.key)
    request = _parsed(body) if body is not None else None
    given = request.get("input") if isinstance(request, dict) else await source.input(head.key)
    response = await source.response(head.key)
    took = duration_ms(head, now_ms)
    return Digest(head, model_of(head), took, timeline, source.has_times, request, given, response)


async def timeline_of(source: Source, key: Key) -> Timeline:
    """Fold what is there of the events now."""
    timeline = Timeline()
    async for chunk in source.events(key):
        for seq, frame in enumerate(chunk.events(), chunk.first):
            timeline.add(seq, chunk.at_ms, frame)
    return timeline


def _parsed(body: bytes) -> Json:
    try:
        return loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def usage_words(response: JsonObject) -> Sequence[str]:
    """`12 input`, `345 output`, ... as far as the agent told."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return []
    words = [f"{usage[name]:,} {name.removesuffix('_tokens')}" for name in _USAGE if isinstance(usage.get(name), int)]
    for within, name in _DETAILS:
        details = usage.get(within)
        if isinstance(details, dict) and isinstance(details.get(name), int) and details[name]:
            words.append(f"{details[name]:,} {name.removesuffix('_tokens')}")
    return words


_USAGE = ("input_tokens", "output_tokens", "total_tokens")
_DETAILS = (("input_tokens_details", "cached_tokens"), ("output_tokens_details", "reasoning_tokens"))
