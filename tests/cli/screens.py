"""A terminal of any size, as tmux keeps it: what is on the screen after everything that was written to it."""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import RESPOOL, environment

_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.05


class Terminal:
    """One window of a tmux server of its own."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self._tmux("send-keys", "-t", "it", *keys)

    def lines(self) -> list[str]:
        """What is on the screen, line by line, without blanks at the ends."""
        text = self._tmux("capture-pane", "-p", "-t", "it")
        return [line.rstrip() for line in text.splitlines()]

    def shows(self, words: str) -> list[str]:
        """The screen as soon as these words are on it."""
        return self._until(lambda lines: any(words in line for line in lines), words)

    def gone(self, words: str) -> list[str]:
        """The screen as soon as these words are not on it any more."""
        return self._until(lambda lines: not any(words in line for line in lines), f"no {words}")

    def _until(self, condition: Callable[[list[str]], bool], words: str) -> list[str]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            lines = self.lines()
            if condition(lines):
                return lines
            assert time.monotonic() < deadline, (words, lines)
            time.sleep(_LOOK_SECONDS)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *arguments], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout


@contextlib.contextmanager
def terminal(
    *arguments: str, width: int, height: int, store: Path | None = None, **variables: str
) -> Iterator[Terminal]:
    """The command on a terminal of that size, which stays when it has ended."""
    if shutil.which("tmux") is None and "CI" not in os.environ:
        pytest.skip("tmux is not installed")
    # A short path: a socket's may not be longer than some hundred characters.
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "s"
        command = " ".join(map(shlex.quote, [*RESPOOL, *arguments]))
        subprocess.run(
            [
                *("tmux", "-S", str(socket), "-f", "/dev/null", "new-session", "-d", "-s", "it"),
                *("-x", str(width), "-y", str(height), f"{command}; echo left with $?; exec sleep 600"),
            ],
            env=environment(store, **variables),
            check=True,
            timeout=30,
        )
        try:
            yield Terminal(socket)
        finally:
            subprocess.run(["tmux", "-S", str(socket), "kill-server"], check=False, capture_output=True, timeout=30)
