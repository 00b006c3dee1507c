"""`respool cancel`, `respool rm`: what ends a response, and what removes it."""

import asyncio
from typing import Annotated

import typer

from respool.cli.inspect.choose import chosen
from respool.cli.inspect.hand import Hand, hand
from respool.cli.inspect.trouble import told
from respool.cli.inspect.where import IdArgument, StoreOption, UrlOption, UserOption, Where, complete_ids, opened, where
from respool.store.base import Head

IdsArgument = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="Responses, as in show.", show_default=False, autocompletion=complete_ids),
]


def cancel(id_: IdArgument, store: StoreOption = None, url: UrlOption = None, user: UserOption = None) -> None:
    """Cancel a background response that runs; what it has said is kept."""
    with told():
        asyncio.run(_cancel(where(store, url, user), id_))


async def _cancel(place: Where, text: str) -> None:
    (head,) = await _chosen(place, [text])
    async with hand(place) as hands:
        typer.echo(f"{head.key.id} {await hands.cancel(head.key)}")


def rm(ids: IdsArgument, store: StoreOption = None, url: UrlOption = None, user: UserOption = None) -> None:
    """Delete responses that have ended, with everything of them."""
    with told():
        asyncio.run(_rm(where(store, url, user), ids))


async def _rm(place: Where, texts: list[str]) -> None:
    # All of them are looked up before the first one goes: a mistyped id changes nothing.
    heads = await _chosen(place, texts)
    async with hand(place) as hands:
        for head in heads:
            await _delete(hands, head)


async def _delete(hands: Hand, head: Head) -> None:
    await hands.delete(head.key)
    typer.echo(f"{head.key.id} deleted")


async def _chosen(place: Where, texts: list[str]) -> list[Head]:
    async with opened(place) as source:
        heads = [await chosen(source, place, text) for text in texts]
    return list({head.key: head for head in heads}.values())
