"""Which store or server a command looks at, and whose responses: the options that all of them share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from respool.cli.inspect.source import Source, StoreSource
from respool.cli.inspect.trouble import NO_STORE, WRONG_OPTIONS, Trouble
from respool.store.archive import Archive
from respool.store.base import Filter, Incompatible, StorageFailed, StoreError
from respool.store.open import DEFAULT_STORE, open_reader

_COMPLETED = 50

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        show_default=False,
        help=f"The log itself: sqlite:///FILE. [env: RESPOOL_STORE] [default: {DEFAULT_STORE}]",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", show_default=False, help="A running server instead of its log. [env: RESPOOL_URL]"
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option(
        "--user",
        "-u",
        metavar="NAME",
        show_default=False,
        help='Responses of this user alone, named as the platform does or as HEADER=NAME; "" is nobody.',
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON, the shapes of which are documented.")]
PagerOption = Annotated[
    bool, typer.Option("--pager/--no-pager", help="Whether long output goes through $PAGER, on a terminal.")
]


def complete_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest ids that begin so, for a shell that completes; nothing where there is no log to look into."""
    import asyncio

    async def found() -> list[tuple[str, str]]:
        place = where(context.params.get("store"), context.params.get("url"))
        async with opened(place) as source:
            heads = await source.list(Filter(prefix=incomplete, limit=_COMPLETED))
        return [(head.key.id, str(head.status)) for head in heads]

    try:
        return asyncio.run(found())
    except (Trouble, StoreError):
        return []


IdArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A response: its id, the beginning of it, or latest (also -).",
        show_default=False,
        autocompletion=complete_ids,
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """A store, or the server at `url` where that is not None; and the user as it was typed."""

    store: str
    url: str | None
    user: str | None


def where(store: str | None, url: str | None, user: str | None = None) -> Where:
    """What the options say, and after them RESPOOL_URL and RESPOOL_STORE. Raises Trouble."""
    import os

    if store is not None and url is not None:
        raise Trouble(WRONG_OPTIONS, "say --store or --url, not both")
    if store is None and url is None:
        url = os.environ.get("RESPOOL_URL") or None
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise Trouble(WRONG_OPTIONS, f"--url {url} is no http:// or https:// URL")
        return Where("", url.rstrip("/"), user)
    return Where(store or os.environ.get("RESPOOL_STORE") or DEFAULT_STORE, None, user)


@asynccontextmanager
async def opened(place: Where) -> AsyncIterator[Source]:
    """The source at that place. Raises Trouble."""
    if place.url is None:
        source: Source = StoreSource(await open_archive(place.store))
    else:
        from respool.cli.inspect.server import ServerSource  # it brings an HTTP client, which takes a while to load

        source = ServerSource(place.url, place.user)
    try:
        yield source
    finally:
        await source.close()


@asynccontextmanager
async def archive(place: Where, what: str) -> AsyncIterator[Archive]:
    """The store at that place, for what a server does not show. Raises Trouble."""
    if place.url is not None:
        raise Trouble(WRONG_OPTIONS, f"{what} is not shown over HTTP: look into the log itself with --store")
    found = await open_archive(place.store)
    try:
        yield found
    finally:
        await found.close()


async def open_archive(store: str) -> Archive:
    """The store at an address, for reading. Raises Trouble."""
    path = Path(store.removeprefix("sqlite:///"))
    try:
        return await open_reader(store)
    except ValueError as error:
        raise Trouble(NO_STORE, f"{error}; say --store sqlite:///FILE") from None
    except StorageFailed as error:
        if not path.exists():  # noqa: ASYNC240 - one look, on the way out
            words = f"there is no log at {path}: say --store sqlite:///FILE, or --url for a running server"
            raise Trouble(NO_STORE, words) from None
        raise Trouble(NO_STORE, f"cannot open {store}: {error}") from None
    except Incompatible as error:
        raise Trouble(NO_STORE, f"cannot open {store}: {error}") from None
