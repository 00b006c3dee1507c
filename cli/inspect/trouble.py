"""Why a command could not do what was asked: one line that says what to do, and an exit code.

0: done. 1: something broke, or `check` found something. 2: the options are wrong. 4: the store cannot be opened or
read. 5: there is no such response, or an id means several. 6: the server cannot be reached, or refused. 130: Ctrl-C.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from respool.cli.inspect import harmless
from respool.store.base import Incompatible, InFlight, Locked, NotFound, StorageFailed

BROKEN = 1
WRONG_OPTIONS = 2
NO_STORE = 4
NOT_FOUND = 5
NO_SERVER = 6


class Trouble(Exception):
    """`lines` are for a person; the first says what is wrong, and what to do."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(*lines)
        self.code = code
        self.lines = lines


@contextmanager
def told() -> Iterator[None]:
    """Tell what goes wrong inside on standard error, and leave with its code."""
    try:
        yield
    except (Trouble, Locked, Incompatible, StorageFailed, NotFound, InFlight) as error:
        trouble = error if isinstance(error, Trouble) else _of_the_store(error)
        for line in trouble.lines:
            typer.echo(f"respool: {harmless.line(line)}", err=True)
        raise typer.Exit(trouble.code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _of_the_store(error: Exception) -> Trouble:
    match error:
        case NotFound():
            return Trouble(NOT_FOUND, "the response is gone: it was deleted meanwhile")
        case InFlight():
            return Trouble(BROKEN, "the response has not ended: cancel it first")
        case _:
            return Trouble(NO_STORE, f"cannot use the store: {error}")
