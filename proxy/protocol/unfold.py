"""A finished response object turned into the events that would have led to it.

For agents that answer JSON although a stream was asked for. Source: CONTRACT section 2.
"""

from collections.abc import Iterator

from respool.proxy.protocol.jsons import Json, JsonObject, dumps
from respool.proxy.protocol.sse import Message

_END = {"completed": "completed", "failed": "failed", "incomplete": "incomplete", "cancelled": "failed"}
_TEXT_OF_PART = {"output_text": ("response.output_text", "text"), "refusal": ("response.refusal", "refusal")}


def is_response(value: JsonObject) -> bool:
    """Whether a 200 JSON answer is a response object, and not an error that an agent sends with status 200."""
    return value.get("object") == "response" or isinstance(value.get("output"), list)


def unfold(response: JsonObject) -> Iterator[Message]:
    """The messages of a stream whose fold is `response`. Unnumbered: whoever passes them on numbers them."""
    opening = {**response, "status": "in_progress", "output": []}
    yield _message("response.created", response=opening)
    yield _message("response.in_progress", response=opening)
    output = response.get("output")
    for index, item in enumerate(output if isinstance(output, list) else []):
        if isinstance(item, dict):
            yield from _item(index, item)
    end = _END.get(str(response.get("status")), "failed" if response.get("error") else "completed")
    yield _message(f"response.{end}", response=response)


def _item(index: int, item: JsonObject) -> Iterator[Message]:
    kind = item.get("type")
    opening = {**item, "status": "in_progress"} if "status" in item else dict(item)
    inside: Iterator[Message] = iter(())
    if kind == "message" and isinstance(item.get("content"), list):
        opening["content"] = []
        inside = _parts(index, item)
    elif kind == "function_call" and isinstance(item.get("arguments"), str):
        opening["arguments"] = ""
        inside = _arguments(index, item)
    yield _message("response.output_item.added", output_index=index, item=opening)
    yield from inside
    yield _message("response.output_item.done", output_index=index, item=item)


def _parts(index: int, item: JsonObject) -> Iterator[Message]:
    for at, part in enumerate(item["content"]):
        place: JsonObject = {"item_id": item.get("id", ""), "output_index": index, "content_index": at}
        name, key = _TEXT_OF_PART.get(str(part.get("type")) if isinstance(part, dict) else "", ("", ""))
        opening = {**part, key: ""} if name else part
        yield _message("response.content_part.added", **place, part=opening)
        if name:
            yield _message(f"{name}.delta", **place, delta=part.get(key, ""))
            yield _message(f"{name}.done", **place, **{key: part.get(key, "")})
        yield _message("response.content_part.done", **place, part=part)


def _arguments(index: int, item: JsonObject) -> Iterator[Message]:
    place: JsonObject = {"item_id": item.get("id", ""), "output_index": index}
    yield _message("response.function_call_arguments.delta", **place, delta=item["arguments"])
    yield _message("response.function_call_arguments.done", **place, arguments=item["arguments"])


def _message(name: str, **fields: Json) -> Message:
    return name.encode(), dumps({"type": name, **fields})
