"""The streams of real agents, recorded byte for byte, and the events in them."""

from pathlib import Path

from respool.proxy.protocol.jsons import JsonObject, loads
from respool.proxy.protocol.sse import Decoder, Message

CAPTURES = Path(__file__).parents[1] / "captures"

STREAMS = {str(path.relative_to(CAPTURES).with_suffix("")): path for path in sorted(CAPTURES.rglob("*.sse"))}
"""Where each stream is, by its name: `core/burst`."""


def body(name: str) -> bytes:
    """The stream as it came from the agent."""
    return STREAMS[name].read_bytes()


def messages(name: str) -> list[Message]:
    """Name and data of each event."""
    return Decoder(2**24, 2**28).feed(body(name))


def events(name: str) -> list[JsonObject]:
    """Each event, parsed."""
    return [loads(data) for _, data in messages(name)]
