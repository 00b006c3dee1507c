"""From what a person types to a response: the whole id, the beginning of one, or the newest."""

from collections.abc import Sequence

from respool.cli.inspect.source import Source, StoreSource
from respool.cli.inspect.trouble import NOT_FOUND, Trouble
from respool.cli.inspect.where import Where
from respool.store.archive import Archive
from respool.store.base import Filter, Head, Key, NotFound

NEWEST = ("-", "latest")
_CANDIDATES = 10


async def owner_of(source: Source, place: Where) -> str | None:
    """The owner that --user means, as the log names it; None for everybody. Raises Trouble.

    A server is asked as that user, and tells nothing of others.
    """
    if place.user is None or place.url is not None or not isinstance(source, StoreSource):
        return None
    owners = await source.archive.owners()
    if place.user in owners or place.user == "":
        return place.user
    found = [owner for owner in owners if owner.partition("=")[2] == place.user]
    if len(found) > 1:
        raise Trouble(NOT_FOUND, f"--user {place.user} is ambiguous: say one of {', '.join(found)}")
    if not found:
        raise Trouble(NOT_FOUND, f"no response belongs to {place.user}: `respool ls --json` tells the owners")
    return found[0]


async def chosen(source: Source, place: Where, text: str) -> Head:
    """The one response that `text` means. Raises Trouble, which lists the candidates where there are several."""
    owner = await owner_of(source, place)
    text = text.strip().removesuffix("…").removesuffix("...")
    if text in NEWEST:
        newest = await source.list(Filter(owner=owner, limit=1))
        if not newest:
            raise Trouble(NOT_FOUND, "there is no response yet")
        return newest[0]
    if isinstance(source, StoreSource):
        return _only(text, await _in_the_log(source.archive, owner, text))
    return await _at_the_server(source, text)


async def _in_the_log(archive: Archive, owner: str | None, text: str) -> Sequence[Head]:
    found = await archive.list(Filter(owner=owner, prefix=text, limit=_CANDIDATES + 1))
    if len(found) > 1:
        # A whole id is meant, even if a longer one begins with it.
        owners = [owner] if owner is not None else sorted({head.key.owner for head in found} | {""})
        whole = [head for head in found if head.key.id == text] or await _whole(archive, owners, text)
        return whole or found
    return found


async def _whole(archive: Archive, owners: Sequence[str], text: str) -> list[Head]:
    heads = []
    for owner in owners:
        try:
            heads.append(await archive.head(Key(owner, text)))
        except NotFound:
            continue
    return heads


async def _at_the_server(source: Source, text: str) -> Head:
    try:
        return await source.head(Key("", text))
    except NotFound:
        pass
    except Trouble as trouble:
        # A beginning is no id of the right shape to a server, which says so.
        if "refused (400)" not in trouble.lines[0]:
            raise
    try:
        found = await source.list(Filter(prefix=text, limit=_CANDIDATES + 1))
    except Trouble:
        found = []
    return _only(text, found)


def _only(text: str, found: Sequence[Head]) -> Head:
    if len(found) == 1:
        return found[0]
    if not found:
        raise Trouble(NOT_FOUND, f"no response has the id {text}: `respool ls` lists what there is")
    owners = len({head.key.owner for head in found}) > 1
    nobody = '""'
    names = [f"  {head.key.id}" + (f"  --user {head.key.owner or nobody}" if owners else "") for head in found]
    more = ["  ..."] if len(found) > _CANDIDATES else []
    what = "belongs to several users" if len({head.key.id for head in found}) == 1 else "begins several ids"
    raise Trouble(NOT_FOUND, f"{text} {what}: say more of", *names[:_CANDIDATES], *more)
