"""One process serves a database file: the lock beside it, which says where, and the hold on the file itself."""

import fcntl
import os
from collections.abc import Callable, Sequence
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
        descriptor = _locked(path, os.O_RDWR | os.O_CREAT, lambda: str(holder(path) or "another process"))
        try:
            _write(descriptor, f"{os.getpid()}\n{url}\n")
        except OSError as error:
            os.close(descriptor)
            raise StorageFailed(f"{path}: {error.strerror}") from error
        return cls(descriptor)

    def release(self) -> None:
        """Let go. The file stays: whoever removes it could remove another's lock."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


class Hold:
    """A database file, known by what it is and not by its name: locked, and watched for being taken away.

    The lock meets a second process that comes by another name of the file (a hard link, a mount), or after the lock
    beside it was removed.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._watched = [(path, _identity(os.fstat(descriptor)))]
        self.sizes: dict[str, int] = {}
        """How large each file was when it was last looked for, in bytes."""

    @classmethod
    def take(cls, path: str) -> Self:
        """Take hold of the file at `path`, before SQLite opens it. Raises Locked, StorageFailed."""
        return cls(path, _locked(path, os.O_RDONLY, lambda: "another process, by another of its names"))

    def watch(self, suffixes: Sequence[str]) -> None:
        """From now on look after the files beside it too, as far as they are there."""
        for path in (self.path + suffix for suffix in suffixes):
            if os.path.exists(path):
                self._watched.append((path, _identity(os.stat(path))))

    def check(self) -> None:
        """Raises StorageFailed if one of the files is not there any more under its name.

        What is written to a file without a name is lost with the process, and nothing else would say so.
        """
        for path, identity in self._watched:
            try:
                found = os.stat(path)
            except OSError as error:
                raise StorageFailed(f"{path} was taken away while it is served: {error.strerror}") from error
            self.sizes[path] = found.st_size
            if _identity(found) != identity:
                raise StorageFailed(f"{path} was replaced while it is served; this process has the old one open.")

    def release(self) -> None:
        """Let go, after SQLite has: closing a descriptor of the file drops the locks that SQLite has on it."""
        os.close(self._descriptor)


def _locked(path: str, flags: int, holder_of_it: Callable[[], str]) -> int:
    """A descriptor of the file, with the lock on it. Raises Locked, StorageFailed."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Locked(f"{path} is held by {holder_of_it()}") from error
    except OSError as error:
        os.close(descriptor)
        raise StorageFailed(f"{path}: {error.strerror}") from error
    return descriptor


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def holder(path: str) -> Holder | None:
    """What the holder of the lock file `path` wrote into it; None if nobody holds it or it has not written yet."""
    try:
        with open(path, encoding="utf-8") as file:
            pid, url, *_ = file.read().split("\n")
        return Holder(int(pid), url)
    except (OSError, ValueError):
        return None


def serving(path: str) -> Holder | None:
    """Who holds the lock file `path` at this moment; None if nobody does, whatever a dead process left in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder(path) or Holder(0, "")
    finally:
        os.close(descriptor)
    return None


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
