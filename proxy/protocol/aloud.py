"""Requests and output items as a person reads them: plain text, taken from wherever the API puts it.

What comes from agents and users is passed on as it is; whoever shows it on a terminal must make it harmless.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from respool.proxy.protocol.jsons import Json, JsonObject, dumps, loads

_TEXT_KEYS = ("text", "refusal", "transcript")
_CALL_KEYS = ("arguments", "input", "code", "query", "queries", "action", "operation")
_RESULT_KEYS = ("output", "outputs", "results", "result", "error")
_ENVELOPE_KEYS = frozenset(
    {"type", "id", "status", "response_id", "agent_reference", "name", "call_id", "server_label"}
)

_RESULT_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Passage:
    """One item: what it is ("message", "function_call get_weather"), what it says, whether it is whole."""

    heading: str
    text: str
    status: str = ""


def first_words(body: bytes, characters: int) -> str:
    """How the last message of the user in the body of a POST begins, on one line; "" where there is none."""
    try:
        request = loads(body)
    except ValueError:
        return ""
    given = request.get("input") if isinstance(request, dict) else None
    return opening(_last_words(given), characters)


def opening(text: str, characters: int) -> str:
    """The first `characters` of a text, with every run of white space as one space; cut off with an ellipsis."""
    words = " ".join(text[: 8 * characters + 64].split())
    return words if len(words) <= characters else words[: characters - 1] + "…"


def _last_words(given: Json) -> str:
    if isinstance(given, str):
        return given
    items = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    users = [item for item in items if item.get("role") == "user"]
    for item in reversed(users or items):
        if text := passage(item).text:
            return text
    return ""


def passages(items: Json) -> Iterator[Passage]:
    """Each item of an `output` or an `input`, a plain string being one message."""
    if isinstance(items, str):
        yield Passage("message user", items)
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield passage(item)


def passage(item: JsonObject) -> Passage:
    """One item of an input or an output."""
    kind = str(item.get("type") or ("message" if "role" in item else "item"))
    named = item.get("role") or item.get("name") or item.get("server_label") or ""
    heading = f"{kind} {named}".rstrip()
    text = _content(item) if kind in ("message", "reasoning") else _call(item)
    return Passage(heading, text, str(item.get("status") or ""))


def _content(item: JsonObject) -> str:
    content = item.get("content")
    if isinstance(content, str):
        return content
    parts = [*_list(item.get("summary")), *_list(content)]
    return "\n".join(filter(None, map(_part, parts)))


def _part(part: Json) -> str:
    if not isinstance(part, dict):
        return str(part)
    for key in _TEXT_KEYS:
        if isinstance(part.get(key), str):
            return str(part[key])
    return f"[{part.get('type', 'part')}]"


def _call(item: JsonObject) -> str:
    told = [_value(item[key]) for key in _CALL_KEYS if item.get(key) not in (None, "")]
    results = [f"→ {_cut(_value(item[key]))}" for key in _RESULT_KEYS if item.get(key) not in (None, "", [])]
    if told or results:
        return "\n".join(told + results)
    rest = {key: value for key, value in item.items() if key not in _ENVELOPE_KEYS}
    return _value(rest) if rest else ""


def _value(value: Json) -> str:
    if isinstance(value, str):
        return value
    return dumps(value).decode("utf-8", "replace")


def _cut(text: str) -> str:
    """A result may be a picture, or the whole of a file."""
    return text if len(text) <= _RESULT_CHARACTERS else f"{text[:_RESULT_CHARACTERS]}… ({len(text):,} characters)"


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
