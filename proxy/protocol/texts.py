"""Text that comes in deltas: which events carry it, where it goes, and the items that are made for it.

Source: the events of the Responses API.
"""

from dataclasses import dataclass

from respool.proxy.protocol.growing import Growing, Members, Node, index_in
from respool.proxy.protocol.jsons import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Text:
    """Where the deltas of one kind go: to `key` of the item, or of the part at `index` of the list `within` it.

    `whole` is the key of the text in the event that ends it.
    """

    item_type: str
    key: str
    whole: str
    within: str = ""
    index: str = ""
    part: JsonObject | None = None

    def has_ended(self, item: Node, event: JsonObject) -> bool:
        """Whether `item` has got this text whole at the place that `event` names, or something else is there."""
        node: Json = item
        if self.within:
            members = item.fields.get(self.within)
            node = members.get(index_in(event, self.index) or 0) if isinstance(members, Members) else None
        if isinstance(node, Node):
            text = node.fields.get(self.key)
            return isinstance(text, Growing) and text.final
        return node is not None


def new_item(item_type: str, response_id: str, index: int) -> JsonObject:
    """The item at `index` before its first text, for deltas that came without one."""
    prefix, rest = _MADE[item_type]
    item_id = f"{prefix}_{response_id.partition('_')[2] or response_id}{f'_{index}' if index else ''}"
    return {"type": item_type, "id": item_id, **rest, "status": "in_progress"}


ANNOTATED: JsonObject = {"type": "output_text", "text": "", "annotations": []}

# Per type of item: the prefix of its id, and what it has beside type, id and status.
_MADE: dict[str, tuple[str, JsonObject]] = {
    "message": ("msg", {"role": "assistant", "content": []}),
    "reasoning": ("rs", {"summary": []}),
    "function_call": ("fc", {"call_id": "", "name": "", "arguments": ""}),
    "mcp_call": ("mcp", {"server_label": "", "name": "", "arguments": ""}),
    "custom_tool_call": ("ctc", {"call_id": "", "name": "", "input": ""}),
    "code_interpreter_call": ("ci", {"container_id": "", "code": "", "outputs": None}),
}

OUTPUT_TEXT = Text("message", "text", "text", "content", "content_index", ANNOTATED)
_REFUSAL = Text("message", "refusal", "refusal", "content", "content_index", {"type": "refusal", "refusal": ""})
REASONING_TEXT = Text("reasoning", "text", "text", "content", "content_index", {"type": "reasoning_text", "text": ""})
SUMMARY_TEXT = Text("reasoning", "text", "text", "summary", "summary_index", {"type": "summary_text", "text": ""})

_TEXTS = {
    "output_text": OUTPUT_TEXT,
    "refusal": _REFUSAL,
    "reasoning_text": REASONING_TEXT,
    "reasoning_summary_text": SUMMARY_TEXT,
    "function_call_arguments": Text("function_call", "arguments", "arguments"),
    "mcp_call_arguments": Text("mcp_call", "arguments", "arguments"),
    "custom_tool_call_input": Text("custom_tool_call", "input", "input"),
    "code_interpreter_call_code": Text("code_interpreter_call", "code", "code"),
}
DELTAS: dict[str | None, Text] = {f"response.{name}.delta": text for name, text in _TEXTS.items()}
DONES: dict[str | None, Text] = {f"response.{name}.done": text for name, text in _TEXTS.items()}
