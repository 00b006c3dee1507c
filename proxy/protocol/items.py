"""Input items: the request's `input` as a list of items with ids, earlier turns before it, and pages of it.

Source: CONTRACT section 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from respool.proxy.protocol.errors import invalid
from respool.proxy.protocol.ids import derive
from respool.proxy.protocol.jsons import Json, JsonObject

_PREFIX = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
    "item_reference": "ref",
}
MAX_LIMIT = 100
DEFAULT_LIMIT = 20


def input_items(response_id: str, given: Json) -> list[JsonObject]:
    """The items of one request's `input`: a string is one user message; every item gets an id if it came without."""
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": given}]
    items = given if isinstance(given, list) else []
    return [_item(response_id, index, item) for index, item in enumerate(items) if isinstance(item, dict)]


def _item(response_id: str, index: int, item: JsonObject) -> JsonObject:
    kind = item.get("type") or ("message" if "role" in item else "item")
    full: JsonObject = {**item, "type": kind}
    if not _has_id(item):
        full["id"] = derive(_PREFIX.get(str(kind), "item"), response_id, "input", index)
    if kind == "message":
        full.setdefault("status", "completed")
        content = item.get("content")
        if isinstance(content, str):
            text = "output_text" if item.get("role") == "assistant" else "input_text"
            full["content"] = [{"type": text, "text": content}]
    return full


def _has_id(item: JsonObject) -> bool:
    return isinstance(item.get("id"), str) and bool(item["id"])


def chain(turns: Sequence[tuple[str, Sequence[JsonObject]]]) -> list[JsonObject]:
    """The items of all `turns` (response id, its items), oldest first, no id twice: paging goes by ids."""
    seen: set[str] = set()
    items: list[JsonObject] = []
    for response_id, of_turn in turns:
        for index, item in enumerate(of_turn):
            if not _has_id(item) or item["id"] in seen:
                prefix = _PREFIX.get(str(item.get("type")), "item")
                item = {**item, "id": derive(prefix, response_id, "turn", index)}
            seen.add(item["id"])
            items.append(item)
    return items


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is asked for. `after` and `before` are ids, exclusive, in the chosen order."""

    limit: int = DEFAULT_LIMIT
    order: str = "desc"
    after: str | None = None
    before: str | None = None


def paging(limit: str | None, order: str | None, after: str | None, before: str | None) -> Paging:
    """The query of a list. Raises WireError."""
    order = (order or "desc").lower()
    if order not in ("asc", "desc"):
        raise invalid("order must be 'asc' or 'desc'", "order")
    return Paging(limit_of(limit), order, after, before)


def limit_of(text: str | None) -> int:
    """`limit` of a list. Raises WireError."""
    if text is None:
        return DEFAULT_LIMIT
    try:
        limit = int(text)
    except ValueError:
        raise invalid(f"limit must be an integer between 1 and {MAX_LIMIT}", "limit") from None
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid(f"limit must be between 1 and {MAX_LIMIT}", "limit")
    return limit


def page(items: Sequence[JsonObject], which: Paging) -> JsonObject:
    """One page as the wire has it; an unknown cursor is ignored."""
    ordered = list(items) if which.order == "asc" else list(reversed(items))
    position = {item["id"]: at for at, item in enumerate(ordered)}
    start = position.get(which.after, -1) + 1 if which.after else 0
    stop = position.get(which.before, len(ordered)) if which.before else len(ordered)
    between = ordered[start:stop]
    return listing(between[: which.limit], has_more=len(between) > which.limit)


def listing(data: Sequence[JsonObject], *, has_more: bool) -> JsonObject:
    """The list object of the API."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": list(data), "first_id": first, "last_id": last, "has_more": has_more}
