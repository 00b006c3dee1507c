"""What a person sees: colour and pages on a terminal alone, JSON that is safe to look at, and progress."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from rich.console import Console
from rich.text import Text

from respool.cli.inspect import harmless
from respool.proxy.protocol.jsons import dumps

_BLANKS = re.compile(r" +\n")
_WIDE = 1_000
"""Where nobody looks at it, nothing is cut off to fit."""


def console() -> Console:
    """Standard output. Coloured only on a terminal and without NO_COLOR; text is never taken for markup."""
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _WIDE
    return Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def show(out: Console, parts: Iterable[Any], *, pager: bool) -> None:
    """Print the parts one under the other, through a pager where they do not fit on the terminal."""
    with out.capture() as captured:
        for part in parts:
            out.print(part)
    text = _BLANKS.sub("\n", captured.get())
    is_long = pager and out.is_terminal and text.count("\n") >= out.height
    if not (is_long and _paged(text)):
        out.file.write(text)
        out.file.flush()


def _paged(text: str) -> bool:
    command = shlex.split(os.environ.get("RESPOOL_PAGER") or os.environ.get("PAGER") or "less")
    if not command or shutil.which(command[0]) is None:
        return False
    # As git does: stay if it fits, leave the screen as it is, pass colours.
    environment = {"LESS": "FRX", "LESSCHARSET": "utf-8", **os.environ}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        try:
            process.communicate(text.encode("utf-8", "replace"))
        except (BrokenPipeError, KeyboardInterrupt):
            process.wait()
    return True


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(harmless.json(dumps(value).decode()) + "\n")


def print_json_text(data: bytes) -> None:
    """JSON that is text already, as one line."""
    sys.stdout.write(harmless.json(data.decode("utf-8", "replace")) + "\n")


def text(words: str, style: str = "") -> Text:
    """Words of ours or of others, on one line, as they are."""
    return Text(harmless.line(words), style=style)


@contextmanager
def progress(words: str, total: int | None) -> Iterator[Any]:
    """A bar on standard error, on a terminal alone. Yields a function that is told how many more are done."""
    out = Console(file=sys.stderr, highlight=False, markup=False)
    if not out.is_terminal:
        yield lambda count=1: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # slow to load

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(words, total=total)
        yield lambda count=1: bar.advance(task, count)


def recorded(width: int) -> Console:
    """A console that remembers what is drawn on it, to be exported as a picture."""
    return Console(
        record=True,
        width=width,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
    )
