"""The command: in this process, as a process of its own with pipes, or on a terminal as a person calls it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from respool.cli.main import app
from tests.cli.written import url_of

RESPOOL = (sys.executable, "-m", "respool.cli")
SECONDS = 900
STEERING = ("RESPOOL_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PAGER", "LESS", "TTY_")
"""How the variables begin that steer the command."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def environment(store: Path | None = None, **variables: str) -> dict[str, str]:
    """That of this process without what would steer the command, and the store that it is to look into."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STEERING)}
    told = {"RESPOOL_STORE": url_of(store)} if store is not None else {}
    return {**kept, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **told, **variables}


def respool(*arguments: str, store: Path | None = None, **variables: str) -> Said:
    """Run it to its end in this process, which has loaded it already."""
    cleared: dict[str, str | None] = {name: None for name in os.environ if name.startswith(STEERING)}
    whole = {**cleared, **environment(store, **variables)}
    # In a thread, which has no event loop: the command makes its own.
    with ThreadPoolExecutor(1) as thread:
        told = thread.submit(CliRunner().invoke, app, arguments, env=whole, prog_name="respool").result()
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return Said(told.exit_code, told.stdout, told.stderr)


def started(*arguments: str, store: Path | None = None, **variables: str) -> Said:
    """Run it to its end as a process of its own."""
    ended = subprocess.run(
        [*RESPOOL, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(store, **variables),
        timeout=SECONDS,
        check=False,
    )
    return Said(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def done(*arguments: str, store: Path | None = None, **variables: str) -> Said:
    """`respool`, and it must not fail or complain."""
    said = respool(*arguments, store=store, **variables)
    assert (said.code, said.err) == (0, ""), said
    return said


def on_a_terminal(
    *arguments: str, store: Path | None = None, width: int = 100, height: int = 40, **variables: str
) -> str:
    """What it writes to a terminal of that size, with all that steers it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    process = subprocess.Popen(
        [*RESPOOL, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(store, **variables)
    )
    os.close(theirs)
    try:
        return _read(ours)
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _read(terminal: int) -> str:
    written = b""
    while select.select([terminal], [], [], SECONDS)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how Linux tells that nobody holds the other end any more
            break
        if not piece:
            break
        written += piece
    return written.decode("utf-8", "replace").replace("\r\n", "\n")
