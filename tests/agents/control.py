"""How a test and a real agent in another process speak: gates that a test opens, and a log of what the agent did.

Both are files in one directory, RESPOOL_TEST_CONTROL. The gate of KEY is a file KEY.gate whose size is the number of
tokens that are released, so that releasing is one append; KEY.open releases all. The work log has one line per step:
a word, the run, and what belongs to the word. This module is imported by both sides: standard library alone.
"""

import asyncio
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path


def directory() -> Path:
    """The directory that the test gave to this agent."""
    return Path(os.environ["RESPOOL_TEST_CONTROL"])


@dataclass(frozen=True, slots=True)
class Gate:
    """What a run waits at, token by token."""

    directory: Path
    key: str

    def release(self, tokens: int) -> None:
        with self._count.open("ab") as file:
            file.write(b"." * tokens)

    def release_all(self) -> None:
        self._open.touch()

    async def passed(self, token: int) -> None:
        """Wait until the token of this number, counted from 0, is released."""
        while not (self._open.exists() or self._released() > token):  # noqa: ASYNC110 - the other side is a process
            await asyncio.sleep(0.005)

    def _released(self) -> int:
        return self._count.stat().st_size if self._count.exists() else 0

    @property
    def _count(self) -> Path:
        return self.directory / f"{self.key}.gate"

    @property
    def _open(self) -> Path:
        return self.directory / f"{self.key}.open"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the work log.

    CALLED run input-text, TOKEN run number, COMPLETED run (the agent came to its own end), CANCELLED run exception.
    """

    word: str
    run: str
    detail: str


@dataclass(frozen=True, slots=True)
class WorkLog:
    directory: Path

    def write(self, word: str, run: str, detail: object = "") -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{word} {run} {' '.join(str(detail).split())}\n")

    def steps(self) -> list[Step]:
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        return [Step(*line.split(" ", 2)) for line in lines]

    @property
    def _path(self) -> Path:
        return self.directory / "work.log"


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went: standard input is a pipe from it."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
