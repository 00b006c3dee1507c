"""The events of a stream as a person follows them: text as it comes, calls, thoughts, and how it ends."""

import sys

from rich.console import Console
from rich.text import Text

from respool.cli.inspect import harmless
from respool.cli.inspect.ls import STYLES
from respool.proxy.protocol import events
from respool.proxy.protocol.growing import index_in
from respool.proxy.protocol.jsons import JsonObject
from respool.proxy.protocol.sse import split
from respool.proxy.protocol.timeline import is_delta
from respool.store.status import Status

_THOUGHTS = (b"response.reasoning_summary_text.delta", b"response.reasoning_text.delta")
_QUIET = frozenset({"message"})


class Speech:
    """Prints event after event. What is no text of the answer stands on lines of its own, dim."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._speaking: tuple[int | None, bytes] | None = None
        self._streamed: set[int | None] = set()

    def __call__(self, frame: bytes) -> None:
        name, data = split(frame)
        try:
            event = events.parse(data)
        except events.BadEvent:
            return
        if is_delta(name):
            self._delta(name, event)
        elif name == events.ITEM_ADDED:
            self._item(event)
        elif name == events.ERROR:
            self._aside(f"error: {event.get('code')}: {event.get('message')}", "bold red")
        elif name in events.TERMINAL:
            self._end(name, event)

    def _delta(self, name: bytes, event: JsonObject) -> None:
        delta = event.get("delta")
        if not isinstance(delta, str):
            return
        voice = (index_in(event, "output_index"), name)
        if self._speaking not in (None, voice):
            self._break()
        self._speaking = voice
        style = "" if name == b"response.output_text.delta" else "dim italic" if name in _THOUGHTS else "dim"
        self._out.print(Text(harmless.block(delta), style=style), end="", soft_wrap=True)
        sys.stdout.flush()

    def _item(self, event: JsonObject) -> None:
        item = event.get("item")
        if isinstance(item, dict) and item.get("type") not in _QUIET:
            self._aside(f"{item.get('type')} {item.get('name') or ''}".rstrip(), "cyan")

    def _end(self, name: bytes, event: JsonObject) -> None:
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        word = str(response.get("status") or name.decode().removeprefix("response."))
        error = response.get("error")
        words = f": {error.get('code')}: {error.get('message')}" if isinstance(error, dict) else ""
        self._aside(word + words, STYLES[Status(word)] if word in set(Status) else "bold")

    def _aside(self, words: str, style: str) -> None:
        self._break()
        self._out.print(Text(f"[{harmless.line(words)}]", style=style), soft_wrap=True)
        sys.stdout.flush()

    def _break(self) -> None:
        if self._speaking is not None:
            self._out.print()
            self._speaking = None
