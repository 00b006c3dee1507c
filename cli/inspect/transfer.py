"""`respool export`, `respool import`: responses out of a log, and into another."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from respool.cli.inspect import figures, harmless, terminal
from respool.cli.inspect.choose import chosen, owner_of
from respool.cli.inspect.hand import writing
from respool.cli.inspect.ls import NewerOption, OlderOption, StatusOption, conditions
from respool.cli.inspect.parcel import BadParcel, Parcel, packed, read, written
from respool.cli.inspect.remove import IdsArgument
from respool.cli.inspect.source import StoreSource, pages
from respool.cli.inspect.trouble import BROKEN, WRONG_OPTIONS, Trouble, told
from respool.cli.inspect.where import StoreOption, UrlOption, UserOption, Where, archive, where
from respool.proxy.protocol.jsons import Json, dumps, loads
from respool.store.base import Exists, Filter, Key, NotFound, Store

_TOGETHER = 32
_TOGETHER_BYTES = 16 << 20
_TOLD = 20


def export(
    ids: IdsArgument = [],  # noqa: B006 - typer's way of saying "any number, none too"
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", show_default=False, help="A new file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One response as one JSON object: its request and its response.")
    ] = False,
    status: StatusOption = None,
    newer: NewerOption = None,
    older: OlderOption = None,
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
) -> None:
    """Write responses as JSON lines, with every event and its time, for import; without ID all of them."""
    with told():
        place = where(store, url, user)
        if as_json and len(ids) != 1:
            raise Trouble(WRONG_OPTIONS, "--json writes one response: say its ID")
        which = conditions(status, newer, older)
        with _file(output) as file:
            asyncio.run(_export_one(place, ids[0], file) if as_json else _export(place, ids, which, file))


@contextmanager
def _file(output: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a new file that is there under its name when it is whole, for its owner alone."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists():
        raise Trouble(WRONG_OPTIONS, f"{output} is there already: say another --output")
    unfinished = output.with_name(f"{output.name}.part")
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        with unfinished.open("wb") as file:
            yield file
        unfinished.rename(output)
    except OSError as error:
        raise Trouble(BROKEN, f"cannot write {output}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


async def _export(place: Where, ids: Sequence[str], which: Filter, file: BinaryIO) -> None:
    async with archive(place, "the time at which each event arrived") as found:
        source = StoreSource(found)
        if ids:
            keys = [(await chosen(source, place, text)).key for text in ids]
        else:
            which = replace(which, owner=await owner_of(source, place))
            keys = [head.key async for head in pages(source, which, None)]
            keys.reverse()  # oldest first: the order in which they are created anew
        count = 0
        with terminal.progress("exporting", len(keys)) as done:
            for key in dict.fromkeys(keys):
                try:
                    file.write(written(await packed(found, key)) + b"\n")
                    count += 1
                except NotFound:
                    pass  # deleted meanwhile
                done()
    typer.echo(f"{figures.count_of(count, 'response')} exported", err=True)


async def _export_one(place: Where, text: str, file: BinaryIO) -> None:
    async with archive(place, "the body of a request") as found:
        source = StoreSource(found)
        head = await chosen(source, place, text)
        value = {"request": _json(await found.request(head.key)), "response": await source.response(head.key)}
    file.write(dumps(value) + b"\n")


def _json(body: bytes) -> Json:
    try:
        return loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


@dataclass(slots=True)
class _Import:
    """What has come of an import so far: `problems` are for people, one a line."""

    skip_existing: bool
    imported: int = 0
    skipped: int = 0
    unended: int = 0
    problems: list[str] = field(default_factory=list)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote; - is standard input.")],
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Pass over responses that are there already.")
    ] = False,
    store: StoreOption = None,
    url: UrlOption = None,
) -> None:
    """Take in what export wrote: bytes, numbers and times as they were, each response whole or not at all."""
    with told():
        place = where(store, url)
        if place.url is not None:
            raise Trouble(WRONG_OPTIONS, "a server takes nothing in over HTTP: import into a log with --store")
        with _opened(file) as lines:
            result = asyncio.run(_import(place.store, lines, _size(file), _Import(skip_existing)))
        _tell(result)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as lines:
            yield lines
    except OSError as error:
        raise Trouble(WRONG_OPTIONS, f"cannot read {file}: {error.strerror}") from None


def _size(file: Path) -> int | None:
    return None if str(file) == "-" else file.stat().st_size


async def _import(address: str, lines: BinaryIO, size: int | None, result: _Import) -> _Import:
    async with writing(address) as store:
        with terminal.progress("importing (bytes)", size) as done:
            group: dict[Key, tuple[int, Parcel]] = {}
            held = 0
            for number, line in enumerate(lines, 1):
                parcel = _read(number, line, result)
                if parcel is not None and (
                    parcel.head.key in group or len(group) == _TOGETHER or held > _TOGETHER_BYTES
                ):
                    await _restore(store, group, result)
                    group, held = {}, 0
                if parcel is not None:
                    group[parcel.head.key] = (number, parcel)
                    held += len(line)
                done(len(line))
            await _restore(store, group, result)
    return result


def _read(number: int, line: bytes, result: _Import) -> Parcel | None:
    if not line.strip():
        return None
    try:
        return read(line)
    except BadParcel as error:
        result.problems.append(f"line {number}: {error}")
        return None


async def _restore(store: Store, group: dict[Key, tuple[int, Parcel]], result: _Import) -> None:
    await asyncio.gather(*(_restore_one(store, number, parcel, result) for number, parcel in group.values()))


async def _restore_one(store: Store, number: int, parcel: Parcel, result: _Import) -> None:
    key = parcel.head.key
    try:
        await store.restore(parcel.head, parcel.request, parcel.chunks, parcel.end)
    except Exists:
        result.skipped += 1
        if not result.skip_existing:
            owner = f" of {key.owner}" if key.owner else ""
            result.problems.append(f"line {number}: {key.id}{owner} is there already, and stays as it is")
        return
    result.imported += 1
    result.unended += parcel.end is None


def _tell(result: _Import) -> None:
    typer.echo(f"{figures.count_of(result.imported, 'response')} imported")
    if result.skip_existing and result.skipped:
        typer.echo(f"{figures.count_of(result.skipped, 'response')} there already")
    if result.unended:
        typer.echo(f"{result.unended:,} without an end: the next `respool serve` ends them as failed")
    if result.problems:
        shown = [harmless.line(problem) for problem in result.problems[:_TOLD]]
        more = len(result.problems) - len(shown)
        raise Trouble(BROKEN, *shown, *([f"and {more:,} more"] if more else []))
