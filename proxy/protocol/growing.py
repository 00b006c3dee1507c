"""What a response object is made of while later events may still change it: texts, lists, items and parts.

None of it knows an event by name.
"""

from dataclasses import dataclass

from respool.proxy.protocol.jsons import Json, JsonObject


class Open:
    """A part of the object that later events may still change."""

    def render(self) -> Json:
        """The JSON of this moment, which later changes leave alone."""
        raise NotImplementedError


@dataclass(slots=True)
class Growing(Open):
    """A text, kept in parts, because adding to a string that a dict holds copies it each time."""

    parts: list[str]
    final: bool = False

    def add(self, delta: str) -> None:
        """Append, unless the text is final."""
        if not self.final:
            self.parts.append(delta)

    def render(self) -> str:
        if len(self.parts) != 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0]


class Members(dict[int, Json], Open):
    """A list, by index: events come with indices that may leave gaps, and the list has none."""

    def growing(self, index: int) -> Growing:
        """The text at an index, made if there is none."""
        text = self.setdefault(index, Growing([]))
        if not isinstance(text, Growing):
            text = self[index] = Growing([text] if isinstance(text, str) else [])
        return text

    def render(self) -> list[Json]:
        return [rendered(self[at]) for at in sorted(self)]


class Lists(Members):
    """A list made of lists, by index."""

    def render(self) -> list[Json]:
        return [element for at in sorted(self) for element in self[at]]


@dataclass(slots=True)
class Node(Open):
    """An item or a part that is not final, its lists and texts taken apart where an event has touched them.

    `nameless` is an item that was made for deltas that named none.
    """

    fields: JsonObject
    nameless: bool = False

    def render(self) -> JsonObject:
        return {key: rendered(value) for key, value in self.fields.items()}

    def growing(self, name: str) -> Growing:
        """The text `name`, begun with what is there."""
        text = self.fields.get(name)
        if not isinstance(text, Growing):
            text = self.fields[name] = Growing([text] if isinstance(text, str) else [])
        return text

    def child(self, name: str) -> "Node":
        """The object `name`, begun with what is there."""
        node = self.fields.get(name)
        if not isinstance(node, Node):
            node = self.fields[name] = Node(dict(node) if isinstance(node, dict) else {})
        return node

    def members(self, name: str) -> Members:
        """The list `name`, begun with what is there."""
        members = self.fields.get(name)
        if not isinstance(members, Members):
            elements = members if isinstance(members, list) else []
            members = self.fields[name] = Members(enumerate(map(_opened, elements)))
        return members

    def member(self, name: str, index: int, default: JsonObject) -> "Node | None":
        """The part at an index, made if there is none. None if it is final."""
        members = self.members(name)
        if index not in members:
            members[index] = Node(dict(default))
        node = members[index]
        return node if isinstance(node, Node) else None

    def extend(self, name: str, elements: list[Json]) -> None:
        """Append to the list `name`."""
        members = self.members(name)
        members.update(enumerate(elements, len(members)))


def index_in(event: JsonObject, key: str) -> int | None:
    """The index that an event gives under `key`; None for none, or for what cannot be one."""
    index = event.get(key)
    return index if type(index) is int and index >= 0 else None


def rendered(value: Json) -> Json:
    """`value`, with what is open in it as it is at this moment."""
    return value.render() if isinstance(value, Open) else value


def _opened(value: Json) -> Json:
    return Node(dict(value)) if isinstance(value, dict) else value
