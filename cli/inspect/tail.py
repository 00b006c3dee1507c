"""`respool tail`: follow a response while it is written."""

import asyncio
from contextlib import aclosing
from typing import Annotated

import typer

from respool.cli.inspect import terminal
from respool.cli.inspect.choose import chosen
from respool.cli.inspect.entry import created_ms
from respool.cli.inspect.events import AfterOption, json_event, line_writer, numbered
from respool.cli.inspect.speech import Speech
from respool.cli.inspect.trouble import told
from respool.cli.inspect.where import IdArgument, JsonOption, StoreOption, UrlOption, UserOption, Where, opened, where

EventsOption = Annotated[bool, typer.Option("--events", "-e", help="The events instead of the text.")]


def tail(
    id_: IdArgument = "latest",
    events: EventsOption = False,
    after: AfterOption = -1,
    as_json: JsonOption = False,
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
) -> None:
    """Follow a response as it is written: what there is of it, then live; ends with it."""
    with told():
        asyncio.run(_tail(where(store, url, user), id_, after, events=events, as_json=as_json))


async def _tail(place: Where, text: str, after: int, *, events: bool, as_json: bool) -> None:
    async with opened(place) as source:
        head = await chosen(source, place, text)
        speech = Speech(terminal.console())
        line = line_writer(created_ms(head) if source.has_times else None)
        async with aclosing(numbered(source, head.key, after, None, live=True)) as found:
            async for event in found:
                if as_json:
                    json_event(event)
                elif events:
                    line(event)
                else:
                    speech(event[2])
