"""The lock beside a database file: one process serves it, and says where."""

import fcntl
import os
from dataclasses import dataclass
from typing import Self

from respool.store.base import Locked, StorageFailed


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: process id, and the address that it serves at ("" while it has told none)."""

    pid: int
    url: str

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" at {self.url}" if self.url else "")


class Lock:
    """Held from `acquire` to `release`, or to the end of the process, however that comes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: str, url: str) -> Self:
        """Take the lock file `path` and write into it who we are. Raises Locked, StorageFailed."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(descriptor, f"{os.getpid()}\n{url}\n")
        except BlockingIOError as error:
            os.close(descriptor)
            raise Locked(f"{path} is held by {holder(path) or 'another process'}") from error
        except OSError as error:
            os.close(descriptor)
            raise StorageFailed(f"{path}: {error.strerror}") from error
        return cls(descriptor)

    def release(self) -> None:
        """Let go. The file stays: whoever removes it could remove another's lock."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def holder(path: str) -> Holder | None:
    """What the holder of the lock file `path` wrote into it; None if nobody holds it or it has not written yet."""
    try:
        with open(path, encoding="utf-8") as file:
            pid, url, *_ = file.read().split("\n")
        return Holder(int(pid), url)
    except (OSError, ValueError):
        return None


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
