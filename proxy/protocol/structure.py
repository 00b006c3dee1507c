"""Items and parts: which of them are open, and those that an agent leaves out around its text.

An agent that opens items is trusted with what it says inside them. Text that comes while no item is open gets one, one
after the other, and the events that name no place are given theirs. Source: CONTRACT section 3.
"""

from collections import Counter
from dataclasses import dataclass, field

from respool.proxy.protocol.accumulator import Accumulator
from respool.proxy.protocol.events import ITEM_ADDED, ITEM_DONE, PART_ADDED, PART_DONE
from respool.proxy.protocol.growing import index_in
from respool.proxy.protocol.jsons import Json, JsonObject
from respool.proxy.protocol.texts import DELTAS, DONES, OUTPUT_TEXT, REASONING_TEXT, SUMMARY_TEXT, Text, new_item

Made = tuple[bytes, JsonObject]
"""An event that the agent left out: its name, and its fields without type and number."""

_ANNOTATION = b"response.output_text.annotation.added"
_SUMMARY_ADDED = b"response.reasoning_summary_part.added"
_SUMMARY_DONE = b"response.reasoning_summary_part.done"
_PARTS_ADDED = {"content": PART_ADDED, "summary": _SUMMARY_ADDED}
_PARTS_DONE = {"content": PART_DONE, "summary": _SUMMARY_DONE}

_TEXT_OF = {str(name).encode(): text for name, text in {**DELTAS, **DONES}.items()} | {_ANNOTATION: OUTPUT_TEXT}
_TEXT_DONE = frozenset(str(name).encode() for name in DONES)
_OF_PARTS = frozenset(name for name, text in _TEXT_OF.items() if text.item_type == "message")
_OF_ITEMS = frozenset(name for name, text in _TEXT_OF.items() if text.item_type == "reasoning")
_INSIDE = frozenset({*_TEXT_OF, PART_ADDED, PART_DONE, _SUMMARY_ADDED, _SUMMARY_DONE})


@dataclass(slots=True)
class _Kept:
    """An item that is looked after here, from its beginning to its end.

    `nameless` if it was made for text that named no item. `told` counts its parts by the list they are in; `part` is
    the last of them, as list and index of the agent's; `open` if its end is for us to tell; `whole` if its text is.
    """

    index: int
    id: Json
    kind: Json
    nameless: bool
    fold: Accumulator
    told: Counter[str] = field(default_factory=Counter)
    part: tuple[str, int] | None = None
    text: Text = OUTPUT_TEXT
    open: bool = False
    whole: bool = False

    def has(self, name: bytes, event: JsonObject, text: Text) -> bool:
        """Whether an event speaks of this item; one that names none speaks of the last, until that has its text."""
        named, index = event.get("item_id"), index_in(event, "output_index")
        if text.item_type != self.kind:
            return False
        if isinstance(named, str):
            return bool(named == self.id)
        if index is not None:
            return index == self.index
        if not self.whole or name in _PARTS_DONE.values() or name == _ANNOTATION:
            return True
        if self.part is None or self.part[0] != text.within:
            return True
        return index_in(event, text.index) not in (None, self.part[1])

    def ends_with(self, item: JsonObject, index: int | None) -> bool:
        """Whether a finished item is this one."""
        is_named = item.get("id") is None or item["id"] == self.id or self.nameless
        return is_named and item.get("type") == self.kind and index in (None, self.index)

    def end_part(self) -> list[Made]:
        """The end of the part that is open, if it is for us to tell."""
        if not self.open or self.part is None:
            return []
        self.open = False
        within = self.part[0]
        parts = self.so_far().get(within)
        part = parts[-1] if isinstance(parts, list) and parts else self.text.part
        return [(_PARTS_DONE[within], {**self.place(self.text), "part": part})]

    def place(self, text: Text) -> JsonObject:
        """Where an event of `text` stands, in numbers of ours."""
        place: JsonObject = {"item_id": self.id, "output_index": self.index}
        return {**place, text.index: self.told[text.within] - 1} if text.within else place

    def so_far(self) -> JsonObject:
        """The item at this moment."""
        output = self.fold.snapshot()["output"]
        return dict(output[0]) if output else {}


class Structure:
    """The items and parts of one stream. Tell it of every event that does not pass `passes`, in order."""

    def __init__(self, response_id: str) -> None:
        self._response_id = response_id
        self._begun: set[int] = set()
        self._items: dict[int, Json] = {}
        self._parts: set[tuple[int, int]] = set()
        self._made_parts: set[tuple[int, int]] = set()
        self._kept: _Kept | None = None

    @property
    def is_closed(self) -> bool:
        """Whether everything that was opened was closed, or is whole and ours to close."""
        return not self._items and (self._kept is None or self._kept.whole)

    def passes(self, name: bytes) -> bool:
        """Whether an event of this name needs nothing around it, so that nobody has to look into it."""
        if self._kept is not None:
            return name not in _INSIDE
        if name in _OF_PARTS:
            return bool(self._parts)
        return bool(self._items) or name not in _OF_ITEMS

    def remembers(self, name: bytes, event: JsonObject) -> bool:
        """Whether `place` would keep what an event says, for an end that is ours to tell."""
        index = index_in(event, "output_index")
        if self._kept is not None:
            return True
        if name == ITEM_ADDED:
            return index is None
        if name == ITEM_DONE or _text_of(name, event) is None:
            return False
        return not (index in self._begun or (index is None and self._items))

    def place(self, name: bytes, event: JsonObject) -> tuple[list[Made], JsonObject]:
        """What must be told before an event, and what of its own members must be set."""
        if name == ITEM_ADDED:
            return self._begin(event)
        if name == ITEM_DONE:
            return self._end(event)
        text = _text_of(name, event)
        return ([], {}) if text is None else self._inside(name, event, text)

    def close(self, *, completed: bool) -> list[Made]:
        """The end of the item that is looked after here, if there is one."""
        kept, self._kept = self._kept, None
        if kept is None:
            return []
        made = kept.end_part()
        kept.fold.close_items("completed" if completed else "incomplete")
        return [*made, (ITEM_DONE, {"output_index": kept.index, "item": kept.so_far()})]

    def forget(self) -> None:
        """What is open is no longer ours to close: its beginning may not have been told."""
        self._kept = None

    def _next(self) -> int:
        return max(self._begun, default=-1) + 1

    def _begin(self, event: JsonObject) -> tuple[list[Made], JsonObject]:
        made = self.close(completed=True)
        index, item = index_in(event, "output_index"), event.get("item")
        if not isinstance(item, dict):
            return made, {}
        content = item.get("content")
        parts = len(content) if isinstance(content, list) else 0
        if index is None:
            return made, self._keep(item, parts)
        self._begun.add(index)
        self._items[index] = item.get("id")
        self._parts |= {(index, part) for part in range(parts)}
        return made, {}

    def _keep(self, item: JsonObject, parts: int) -> JsonObject:
        """Look after an item of the agent's that has no index."""
        index = self._next()
        self._kept = _Kept(index, item.get("id"), item.get("type"), False, Accumulator({}))
        if parts:
            self._kept.told["content"], self._kept.part = parts, ("content", parts - 1)
        self._begun.add(index)
        self._fold(ITEM_ADDED, {"item": item, "output_index": index})
        return {"output_index": index}

    def _end(self, event: JsonObject) -> tuple[list[Made], JsonObject]:
        index, item, kept = index_in(event, "output_index"), event.get("item"), self._kept
        if not isinstance(item, dict):
            return [], {}
        if kept is not None and kept.ends_with(item, index):
            made, self._kept = kept.end_part(), None
            put: JsonObject = {"output_index": kept.index}
            return made, put if item.get("id") == kept.id else {**put, "item": {**item, "id": kept.id}}
        if index is None:
            index = next((at for at, item_id in self._items.items() if item_id == item.get("id")), None)
        if index is None or index not in self._begun:
            return self._whole(index, item)
        made = self._end_parts(index, item)
        self._items.pop(index, None)
        self._parts = {part for part in self._parts if part[0] != index}
        return made, {"output_index": index}

    def _whole(self, index: int | None, item: JsonObject) -> tuple[list[Made], JsonObject]:
        """An item that ends without having begun."""
        made = self.close(completed=True)
        index = self._next() if index is None else index
        self._begun.add(index)
        opening = {**item, "status": "in_progress"} if "status" in item else item
        return [*made, (ITEM_ADDED, {"output_index": index, "item": opening})], {"output_index": index}

    def _end_parts(self, index: int, item: JsonObject) -> list[Made]:
        """The ends of parts that were opened here in an item of the agent's."""
        content = item.get("content")
        parts = dict(enumerate(content)) if isinstance(content, list) else {}
        return [
            (PART_DONE, {**_place(item.get("id"), index, part), "part": parts[part]})
            for at, part in sorted(self._made_parts & self._parts)
            if at == index and part in parts
        ]

    def _inside(self, name: bytes, event: JsonObject, text: Text) -> tuple[list[Made], JsonObject]:
        if self._kept is not None and self._kept.has(name, event, text):
            return self._inside_kept(self._kept, name, event, text)
        index = index_in(event, "output_index")
        if index in self._begun or (index is None and self._items):
            return self._inside_items(name, event, index)
        if name == _ANNOTATION or text.item_type not in ("message", "reasoning"):
            return [], {}
        made = self.close(completed=True)
        kept, begun = self._make(event, text, self._next() if index is None else index)
        around, put = self._inside_kept(kept, name, event, text)
        return [*made, begun, *around], put

    def _inside_items(self, name: bytes, event: JsonObject, index: int | None) -> tuple[list[Made], JsonObject]:
        """An event inside an item of the agent's, where only a part may be missing."""
        place = (next(iter(self._items)) if index is None else index, index_in(event, "content_index") or 0)
        if name == PART_ADDED:
            self._parts.add(place)
        elif name == PART_DONE:
            self._parts.discard(place)
        elif name in _OF_PARTS and place[0] in self._items and place not in self._parts:
            self._parts.add(place)
            self._made_parts.add(place)
            return [(PART_ADDED, {**_place(self._items[place[0]], *place), "part": _TEXT_OF[name].part})], {}
        return [], {}

    def _make(self, event: JsonObject, text: Text, index: int) -> tuple[_Kept, Made]:
        item, named = new_item(text.item_type, self._response_id, index), event.get("item_id")
        if isinstance(named, str):
            item["id"] = named
        self._begun.add(index)
        kept = self._kept = _Kept(index, item["id"], text.item_type, not isinstance(named, str), Accumulator({}))
        return kept, self._fold(ITEM_ADDED, {"output_index": index, "item": item})

    def _inside_kept(self, kept: _Kept, name: bytes, event: JsonObject, text: Text) -> tuple[list[Made], JsonObject]:
        made: list[Made] = []
        if text.within:
            made = self._in_part(kept, name, event, text)
        place = kept.place(text)
        self._fold(name, {**event, **place})
        if name in _PARTS_DONE.values():
            kept.open = False
        if name in _TEXT_DONE or name in _PARTS_DONE.values():
            kept.whole = True
        return made, {key: value for key, value in place.items() if event.get(key) != value}

    def _in_part(self, kept: _Kept, name: bytes, event: JsonObject, text: Text) -> list[Made]:
        last = kept.part[1] if kept.part is not None and kept.part[0] == text.within else None
        index = index_in(event, text.index)
        index = last if index is None else index
        if last is not None and index == last:
            return []
        made = kept.end_part()
        kept.part, kept.text, kept.whole = (text.within, index or 0), text, False
        kept.told[text.within] += 1
        if name in _PARTS_ADDED.values():
            return made
        kept.open = True
        return [*made, self._fold(_PARTS_ADDED[text.within], {**kept.place(text), "part": text.part})]

    def _fold(self, name: bytes, fields: JsonObject) -> Made:
        if self._kept is not None:
            self._kept.fold.add({**fields, "type": name.decode()})
        return name, fields


def _place(item_id: Json, index: int, part: int) -> JsonObject:
    return {"item_id": item_id, "output_index": index, "content_index": part}


def _text_of(name: bytes, event: JsonObject) -> Text | None:
    if name in (PART_ADDED, PART_DONE):
        part = event.get("part")
        is_reasoning = isinstance(part, dict) and part.get("type") == "reasoning_text"
        return REASONING_TEXT if is_reasoning else OUTPUT_TEXT
    return SUMMARY_TEXT if name in (_SUMMARY_ADDED, _SUMMARY_DONE) else _TEXT_OF.get(name)
