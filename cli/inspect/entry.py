"""One response in a list: what is known of it without reading its events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from respool.cli.inspect import figures
from respool.cli.inspect.source import Source
from respool.cli.inspect.trouble import Trouble
from respool.proxy.protocol import aloud
from respool.proxy.protocol.jsons import JsonObject, dumps, loads
from respool.store.base import Head, NotFound

_WORDS = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of `ls`. Times in milliseconds; `tokens` of the output; None for what is not known (yet)."""

    head: Head
    model: str | None
    created_ms: int
    duration_ms: int | None
    tokens: int | None
    input: str

    @property
    def tokens_per_second(self) -> float | None:
        """Of the whole duration, the time to the first token included."""
        return figures.rate(self.tokens, self.duration_ms)

    def json(self) -> JsonObject:
        """The stable shape: see docs/json.md."""
        head = self.head
        speed = self.tokens_per_second
        return {
            "id": head.key.id,
            "owner": head.key.owner,
            "status": str(head.status),
            "model": self.model,
            "background": head.background,
            "stream": head.stream,
            "created_at_ms": self.created_ms,
            "ended_at_ms": head.ended_at_ms,
            "duration_ms": self.duration_ms,
            "events": head.last_seq + 1,
            "output_tokens": self.tokens,
            "tokens_per_second": None if speed is None else round(speed, 2),
            "conversation": head.conversation,
            "previous_response_id": head.previous_id,
            "agent_id": head.agent_id,
            "input": self.input,
        }


def created_ms(head: Head) -> int:
    """When the POST was taken, as finely as it is known."""
    return head.created_at_ms if head.created_at_ms is not None else head.created_at * 1_000


def duration_ms(head: Head, now_ms: int) -> int | None:
    """How long it took, or has taken by now."""
    if head.ended_at_ms is None and head.status.ended:
        return None
    return max(0, (head.ended_at_ms or now_ms) - created_ms(head))


def model_of(head: Head) -> str | None:
    """The model that was asked for."""
    model = loads(head.envelope).get("model")
    return model if isinstance(model, str) else None


def output_tokens(response: JsonObject) -> int | None:
    """What the agent says it has produced."""
    usage = response.get("usage")
    tokens: Any = usage.get("output_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None


async def entry(source: Source, head: Head, now_ms: int) -> Entry:
    """Everything for one row. What a server does not show, or what was just deleted, stays empty."""
    tokens, words = None, ""
    try:
        if head.status.ended:
            tokens = output_tokens(await source.response(head.key))
        request = await source.request(head.key)
        if request is None:
            request = dumps({"input": await source.input(head.key)})
        words = aloud.first_words(request, _WORDS)
    except (NotFound, Trouble):
        pass
    return Entry(head, model_of(head), created_ms(head), duration_ms(head, now_ms), tokens, words)


def short_ids(ids: Sequence[str], least: int = 16) -> dict[str, str]:
    """The beginning of each id that no other of them has, with an ellipsis where something is left out."""
    ordered = sorted(set(ids))
    short = {}
    for place, id_ in enumerate(ordered):
        beside = ordered[max(0, place - 1) : place] + ordered[place + 1 : place + 2]
        length = max([least, *(_common(id_, other) + 1 for other in beside)])
        short[id_] = id_ if len(id_) <= length + 1 else f"{id_[:length]}…"
    return short


def _common(one: str, other: str) -> int:
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
