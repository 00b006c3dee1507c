"""`respool show`: one response, its life, what was asked, and what came of it."""

import asyncio
import time
from collections.abc import Iterator

from rich.padding import Padding
from rich.text import Text

from respool.cli.inspect import figures, harmless, terminal
from respool.cli.inspect.choose import chosen
from respool.cli.inspect.columns import Cell, Column, table
from respool.cli.inspect.digest import Digest, digest, usage_words
from respool.cli.inspect.entry import created_ms, output_tokens
from respool.cli.inspect.ls import STYLES
from respool.cli.inspect.trouble import told
from respool.cli.inspect.where import (
    IdArgument,
    JsonOption,
    PagerOption,
    StoreOption,
    UrlOption,
    UserOption,
    Where,
    opened,
    where,
)
from respool.proxy.clock import now_ms
from respool.proxy.protocol import aloud
from respool.proxy.protocol.jsons import Json, JsonObject, dumps
from respool.proxy.protocol.timeline import Span, Timeline

Part = Text | Padding

_HIDDEN = frozenset({"input", "model", "stream", "background", "store", "conversation", "previous_response_id"})
"""Fields of a request that are shown elsewhere, or are what they are by default."""


def show(
    id_: IdArgument,
    store: StoreOption = None,
    url: UrlOption = None,
    user: UserOption = None,
    as_json: JsonOption = False,
    pager: PagerOption = True,
) -> None:
    """Show one response: its life as a timeline, the request, the output, usage, the error."""
    with told():
        found = asyncio.run(_digest(where(store, url, user), id_))
        if as_json:
            terminal.print_json(found.json())
        else:
            out = terminal.console()
            terminal.show(out, story(found, out.width, now_ms()), pager=pager)


async def _digest(place: Where, text: str) -> Digest:
    async with opened(place) as source:
        return await digest(source, await chosen(source, place, text), now_ms())


def story(found: Digest, width: int, now: int) -> Iterator[Part]:
    """Everything about one response, for reading."""
    yield from _facts(found, now)
    if found.has_times:
        yield _heading("Life")
        yield from (_indented(line) for line in _life(found, width - 2))
    yield _heading("Request")
    yield from _request(found)
    yield _heading("Output" if found.head.status.ended else "Output so far")
    yield from _passages(found.response.get("output"), "no output")
    if words := usage_words(found.response):
        yield _heading("Usage")
        speed = figures.rate(output_tokens(found.response), found.duration_ms)
        yield _indented(Text(", ".join(words) + (f"; {speed:.1f} output tokens/s" if speed is not None else "")))
    error = found.response.get("error")
    if isinstance(error, dict):
        yield _heading("Error", "bold red")
        yield _indented(terminal.text(f"{error.get('code')}: {error.get('message')}"))


def _heading(words: str, style: str = "bold") -> Text:
    return Text(f"\n{words}", style=style)


def _indented(part: Text, by: int = 2) -> Padding:
    return Padding(part, (0, 0, 0, by), expand=False)


def _facts(found: Digest, now: int) -> Iterator[Text]:
    head = found.head
    yield Text.assemble((harmless.line(head.key.id), "bold"), "  ", (str(head.status), STYLES[head.status]))
    modes = [word for word, on in (("background", head.background), ("stream", head.stream)) if on]
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created_ms(head) / 1_000))
    took = (
        f"took {figures.length(found.duration_ms)}" if head.status.ended else f"for {figures.length(found.duration_ms)}"
    )
    events = f"{figures.count_of(found.timeline.events, 'event')}, {figures.size(found.timeline.size)}"
    yield _fact("created", f"{created}, {figures.age(now - created_ms(head))} ago; {took}; {events}")
    yield _fact("model", " ".join([found.model or "none named", *(f"({' and '.join(modes)})" for _ in modes[:1])]))
    for name, value in (
        ("user", head.key.owner),
        ("agent's id", head.agent_id),
        ("session", head.session),
        ("conversation", head.conversation),
        ("previous", head.previous_id),
    ):
        if value:
            yield _fact(name, value)
    if head.cancel_requested:
        yield _fact("cancel", "asked for")


def _fact(name: str, value: str) -> Text:
    return Text.assemble((f"{name:<13}", "dim"), harmless.line(value))


def _life(found: Digest, width: int) -> list[Text]:
    """The timeline: when, at which event, what; items with a bar of when they were open."""
    line = found.timeline
    begin = created_ms(found.head)
    rows: list[tuple[int, int, list[Cell]]] = [(begin, -1, _row(begin, begin, "", "POST taken", ""))]
    rows += [(step.at_ms, step.seq, _row(begin, step.at_ms, f"{step.seq}", step.type, "")) for step in line.steps]
    rows += [_item(begin, line, span) for span in line.items.values()]
    if line.first_output_ms is not None:
        seq = min((span.first_seq for span in line.items.values()), default=-1)
        rows.append((line.first_output_ms, seq, _row(begin, line.first_output_ms, "", "first token", "", "green")))
    if (silence := line.silence) is not None and silence.ms >= 1_000:
        words = f"silent for {figures.length(silence.ms)}"
        rows.append((silence.from_ms, silence.after_seq, _row(begin, silence.from_ms, "", words, "", "yellow")))
    if not found.head.status.ended:
        rows.append(
            (2**62, 2**62, _row(begin, begin + (found.duration_ms or 0), "", "still under way", "", "bold cyan"))
        )
    rows.sort(key=lambda row: row[:2])
    columns = [
        Column("AT", 9, right=True),
        Column("EVENT", 5, right=True),
        Column("WHAT", 8),
        Column("", 4, style="dim"),
    ]
    return list(table(columns, [cells for _, _, cells in rows], width))


def _row(begin: int, at_ms: int, seq: str, what: str, more: str, style: str = "") -> list[Cell]:
    return [Cell(f"+{figures.length(max(0, at_ms - begin))}"), Cell(seq, "dim"), Cell(what, style), Cell(more)]


def _item(begin: int, line: Timeline, span: Span) -> tuple[int, int, list[Cell]]:
    until = span.ended_ms if span.ended_ms is not None else line.last_ms or span.begun_ms
    words = [f"for {figures.length(until - span.begun_ms)}" + ("" if span.ended_ms is not None else ", not closed")]
    if span.deltas:
        words.append(figures.count_of(span.deltas, "delta"))
        words.append(figures.count_of(span.characters, "character"))
    what = f"{span.type} {span.name}".rstrip()
    return (
        span.begun_ms,
        span.first_seq,
        _row(begin, span.begun_ms, f"{span.first_seq}", what, ", ".join(words), "cyan"),
    )


def _request(found: Digest) -> Iterator[Part]:
    yield from _passages(found.input, "no input")
    request = found.request
    if isinstance(request, dict):
        rest: JsonObject = {name: value for name, value in request.items() if name not in _HIDDEN}
        for name, value in rest.items():
            shown = value if isinstance(value, str) else dumps(value).decode("utf-8", "replace")
            yield _indented(Text.assemble((f"{harmless.line(name)}: ", "dim"), harmless.block(shown)))
    elif request is not None:
        yield _indented(terminal.text(str(request)))


def _passages(items: Json, nothing: str) -> Iterator[Part]:
    empty = True
    for passage in aloud.passages(items):
        empty = False
        status = f"  {passage.status}" if passage.status not in ("", "completed") else ""
        yield _indented(Text.assemble((harmless.line(passage.heading), "cyan"), (harmless.line(status), "yellow")))
        if passage.text:
            yield _indented(Text(harmless.block(passage.text)), 4)
    if empty:
        yield _indented(Text(nothing, style="dim"))
