"""The fold of a stream of events into the response object, a snapshot of which can be had at any moment.

What is trusted, in this order: the response of the terminal event, `output_item.done`, `content_part.done` and the
other `*.done`, deltas. An item is a dict whose type does not matter, but where deltas come without an item around them.
"""

from collections.abc import Callable

from respool.proxy.protocol.growing import Growing, Lists, Node, index_in, rendered
from respool.proxy.protocol.jsons import Json, JsonObject, loads
from respool.proxy.protocol.texts import (
    ANNOTATED,
    DELTAS,
    DONES,
    OUTPUT_TEXT,
    REASONING_TEXT,
    SUMMARY_TEXT,
    Text,
    new_item,
)
from respool.store.status import Status


class Accumulator:
    """One response, folded from its events in their order. Linear in the size of the events."""

    def __init__(self, envelope: JsonObject) -> None:
        """`envelope` is what is known of the response before its first event."""
        self._envelope = envelope
        self._response: JsonObject = {"status": str(Status.IN_PROGRESS), **envelope}
        self._items: dict[int, Node | JsonObject] = {}
        self._index_of: dict[str, int] = {}
        self._output: list[Json] | None = None
        self._ended = False

    def add(self, data: bytes | JsonObject) -> None:
        """Fold one event: its JSON, or that parsed.

        What is no event, is unknown, lacks what it needs or follows the terminal event changes nothing. Never raises.
        """
        event = _parse(data) if isinstance(data, bytes) else data
        kind = event.get("type")
        if self._ended or not isinstance(kind, str | None):
            return
        if (text := DELTAS.get(kind)) is not None:
            self._delta(event, text)
        elif (text := DONES.get(kind)) is not None:
            self._text_done(event, text)
        elif (fold := _FOLDS.get(kind)) is not None:
            fold(self, event)

    def snapshot(self) -> JsonObject:
        """The response object at this moment, which later events do not change.

        What is final is shared with other snapshots, not copied: read it, do not write into it.
        """
        output = self._output if self._output is not None else [rendered(self._items[at]) for at in sorted(self._items)]
        return {**self._response, "output": list(output)}

    def close_items(self, status: str) -> None:
        """Give every item that is under way the status that fits an end which the agent did not write.

        `status` is that of the response: with `completed` the items become so too, with any other `incomplete`.
        """
        word = "completed" if status == Status.COMPLETED else "incomplete"
        for index, item in self._items.items():
            if isinstance(item, Node):
                if _is_under_way(item.fields):
                    item.fields["status"] = word
            elif _is_under_way(item):
                self._items[index] = {**item, "status": word}

    # The response itself.

    def _begin(self, event: JsonObject) -> None:
        response, known = event.get("response"), self._response
        status = event["type"].removeprefix("response.")
        if status == "created":
            status = str(Status.IN_PROGRESS)
        if isinstance(response, dict):
            if event["type"] == "response.created" and response.get("status") == Status.QUEUED:
                status = str(Status.QUEUED)
            known |= {
                key: value
                for key, value in response.items()
                if key != "output" and (value is not None or known.get(key) is None)
            }
            self._reset(response.get("output"))
        known["status"] = status

    def _reset(self, output: Json) -> None:
        """Take the output of a lifecycle event for the items so far, unless it is empty."""
        if isinstance(output, list) and output:
            self._items.clear()
            self._index_of.clear()
            for index, item in enumerate(output):
                if isinstance(item, dict):
                    self._put(index, item, Node(dict(item)))

    def _end(self, event: JsonObject) -> None:
        response = event.get("response")
        status = event["type"].removeprefix("response.")
        if isinstance(response, dict):
            self._response = {**self._envelope, **response}
            output = response.get("output")
            self._output = output if isinstance(output, list) else None
            if status == Status.FAILED and response.get("status") == Status.CANCELLED:
                status = str(Status.CANCELLED)
        self._response["status"] = status
        self._ended = True

    # Items.

    def _put(self, index: int, item: JsonObject, value: Node | JsonObject) -> None:
        self._items[index] = value
        if isinstance(item_id := item.get("id"), str):
            self._index_of[item_id] = index

    def _item_added(self, event: JsonObject) -> None:
        item, index = event.get("item"), index_in(event, "output_index")
        if isinstance(item, dict):
            self._put(self._next() if index is None else index, item, Node(dict(item)))

    def _item_done(self, event: JsonObject) -> None:
        item = event.get("item")
        if isinstance(item, dict):
            index = self._named(event, item.get("id"))
            if index is None:
                index = self._next() - (self._last_open(item.get("type"), item.get("id")) is not None)
            self._put(index, item, item)

    def _item_status(self, event: JsonObject) -> None:
        item = self._existing(event)
        if item is not None:
            item.fields["status"] = event["type"].rpartition(".")[2]

    def _next(self) -> int:
        return max(self._items, default=-1) + 1

    def _last_open(self, item_type: Json, item_id: Json) -> Node | None:
        """The last item, if it is open and may be the one that an event means which has no index."""
        item = self._items.get(self._next() - 1)
        if not isinstance(item, Node) or item.fields.get("type") != item_type:
            return None
        return item if item_id is None or item.nameless else None

    def _named(self, event: JsonObject, item_id: Json) -> int | None:
        index = index_in(event, "output_index")
        return self._index_of.get(item_id) if index is None and isinstance(item_id, str) else index

    def _existing(self, event: JsonObject) -> Node | None:
        index = self._named(event, event.get("item_id"))
        item = self._items.get(self._next() - 1 if index is None else index)
        return item if isinstance(item, Node) else None

    def _open(self, event: JsonObject, item_type: str, text: Text | None = None) -> Node | None:
        """The item that an event adds to, made if there is none. None if it is final.

        An event that names no item means the last one, if that fits and has not yet got its `text`; else a new one
        follows: bare streams speak of one item after the other.
        """
        item_id = event.get("item_id")
        index = self._named(event, item_id)
        if index is not None and index in self._items:
            item = self._items[index]
            return item if isinstance(item, Node) else None
        if index is None:
            last = self._last_open(item_type, item_id)
            if last is not None and (text is None or not text.has_ended(last, event)):
                return last
            index = self._next()
        return self._make(index, item_type, item_id)

    def _make(self, index: int, item_type: str, item_id: Json) -> Node:
        nameless = not isinstance(item_id, str)
        item = Node(new_item(item_type, str(self._response.get("id", "")), index), nameless)
        if not nameless:
            item.fields["id"] = item_id
        self._put(index, item.fields, item)
        return item

    # Parts, and text that grows.

    def _content_part(self, event: JsonObject) -> None:
        part = event.get("part")
        is_reasoning = isinstance(part, dict) and part.get("type") == "reasoning_text"
        self._part(event, part, REASONING_TEXT if is_reasoning else OUTPUT_TEXT)

    def _summary_part(self, event: JsonObject) -> None:
        self._part(event, event.get("part"), SUMMARY_TEXT)

    def _part(self, event: JsonObject, part: Json, text: Text) -> None:
        final = event["type"].endswith(".done")
        if isinstance(part, dict) and (item := self._open(event, text.item_type, None if final else text)) is not None:
            item.members(text.within)[index_in(event, text.index) or 0] = part if final else Node(dict(part))

    def _delta(self, event: JsonObject, text: Text) -> None:
        delta = event.get("delta")
        if isinstance(delta, str) and (node := self._node(event, text)) is not None:
            node.growing(text.key).add(delta)
            if isinstance(logprobs := event.get("logprobs"), list) and logprobs:
                node.extend("logprobs", logprobs)

    def _text_done(self, event: JsonObject, text: Text) -> None:
        whole = event.get(text.whole)
        if isinstance(whole, str) and (node := self._node(event, text)) is not None:
            node.fields[text.key] = Growing([whole], final=True)
            if isinstance(logprobs := event.get("logprobs"), list) and logprobs:
                node.fields["logprobs"] = logprobs

    def _node(self, event: JsonObject, text: Text) -> Node | None:
        item = self._open(event, text.item_type, text)
        if item is None or text.part is None:
            return item
        return item.member(text.within, index_in(event, text.index) or 0, text.part)

    def _annotation(self, event: JsonObject) -> None:
        item = self._existing(event)
        if item is not None and isinstance(annotation := event.get("annotation"), dict):
            part = item.member("content", index_in(event, "content_index") or 0, ANNOTATED)
            if part is not None:
                annotations, index = part.members("annotations"), index_in(event, "annotation_index")
                annotations[max(annotations, default=-1) + 1 if index is None else index] = annotation

    # Calls of a shell.

    def _command(self, event: JsonObject) -> None:
        item, word = self._existing(event), event["type"].rpartition(".")[2]
        command = event.get("delta" if word == "delta" else "command")
        if item is not None and isinstance(command, str):
            commands, index = item.child("action").members("commands"), index_in(event, "command_index") or 0
            if word == "delta":
                commands.growing(index).add(command)
            else:
                commands[index] = Growing([command], final=word == "done")

    def _command_output(self, event: JsonObject) -> None:
        item = self._existing(event)
        if item is not None and isinstance(output := event.get("output"), list):
            outputs = item.fields.get("output")
            if not isinstance(outputs, Lists):
                outputs = item.fields["output"] = Lists()
            outputs[index_in(event, "command_index") or 0] = output


def _parse(data: bytes) -> JsonObject:
    try:
        event = loads(data)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _is_under_way(item: JsonObject) -> bool:
    return item.get("status") in ("in_progress", "searching", "interpreting", "generating", "calling")


_STATUS_WORDS = {
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "web_search_call": ("in_progress", "searching", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_call": ("in_progress", "completed", "failed"),
}

# Events that are not here have no place in the object: pictures in the making, audio, listings of tools, keep-alives,
# and whatever is unknown.
_FOLDS: dict[str | None, Callable[[Accumulator, JsonObject], None]] = {
    "response.created": Accumulator._begin,
    "response.queued": Accumulator._begin,
    "response.in_progress": Accumulator._begin,
    "response.completed": Accumulator._end,
    "response.failed": Accumulator._end,
    "response.incomplete": Accumulator._end,
    "response.output_item.added": Accumulator._item_added,
    "response.output_item.done": Accumulator._item_done,
    "response.content_part.added": Accumulator._content_part,
    "response.content_part.done": Accumulator._content_part,
    "response.reasoning_summary_part.added": Accumulator._summary_part,
    "response.reasoning_summary_part.done": Accumulator._summary_part,
    "response.output_text.annotation.added": Accumulator._annotation,
    "response.shell_call_command.added": Accumulator._command,
    "response.shell_call_command.delta": Accumulator._command,
    "response.shell_call_command.done": Accumulator._command,
    "response.shell_call_output_content.done": Accumulator._command_output,
    **{f"response.{call}.{word}": Accumulator._item_status for call, words in _STATUS_WORDS.items() for word in words},
}
