"""How agents end their streams, well or not, and what comes of it."""

from collections.abc import Callable
from typing import Any

from tests.proxy.agent import (
    Json,
    Wire,
    delta,
    frame,
)
from tests.proxy.client import Event, events_of, whole
from tests.proxy.scene import BACKGROUND, scene
from tests.raw_server import let_the_loop_look

BROKEN = {
    "code": "upstream_disconnected",
    "message": "The agent's connection broke before its answer was complete.",
}

Ending = Callable[[Wire], Any]


def after(*events: Json, then: Ending, headers: tuple[str, ...] = ()) -> Any:
    """A script: these events, and once they can have been read, what `then` does."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin(*headers)
        await wire.say(*events)
        await let_the_loop_look()
        await then(wire)

    return script


async def reset(wire: Wire) -> None:
    wire.reset()


async def reset_in_an_event(wire: Wire) -> None:
    await wire.chunk(frame(delta("lost"))[:20])
    await let_the_loop_look()
    wire.reset()


async def close_in_a_chunk(wire: Wire) -> None:
    await wire.send(b"ff\r\nevent: response.out")


async def close_without_the_last_chunk(wire: Wire) -> None:
    """Closing is what the end of every script does."""


async def send_a_malformed_chunk(wire: Wire) -> None:
    await wire.send(b"zz\r\nnonsense\r\n")
    await wire.gone()


async def end(wire: Wire) -> None:
    await wire.end()


async def end_in_an_event(wire: Wire) -> None:
    await wire.chunk(frame(delta("lost"))[:-1])
    await wire.end()


async def stall(wire: Wire) -> None:
    await wire.gone()


async def outcome(script: Any, **options: Any) -> tuple[list[Event], Json]:
    """The events that a live client got and the final object; the replay, the object and a poll agree with them."""
    async with scene(script, **options) as s:
        response = await s.create(**BACKGROUND)
        assert response.status_code == 200, response.text
        events = events_of(response.content)
        final = whole(events)
        assert await s.events(final["id"]) == events
        assert await s.get(final["id"]) == final
        assert len(s.agent.asked) == 1
        return events, final
