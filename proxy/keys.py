"""API keys out of a file, read again whenever it changes, and compared in constant time.

One key a line: printable ASCII without spaces. Empty lines, and lines that begin with #, say nothing.
"""

import hashlib
import hmac
import logging
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator

from respool.proxy.asking import first
from respool.proxy.reply import Header

log = logging.getLogger(__name__)

_KEY = re.compile(rb"[\x21-\x7e]+")
_MOST_BYTES = 2**20
# Two writes within one tick of the file system's clock look the same: what is as young as this is read again.
_YOUNG_NS = 2 * 10**9


class UnusableKeys(Exception):
    """The file cannot be read, is no file, or holds no key."""


class Keys:
    """The keys that count now. Raises UnusableKeys if there is none at the start."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._digests: tuple[bytes, ...] = ()
        self._problem: str | None = None
        found = self._read()
        if found.st_mode & stat.S_IROTH:
            log.warning("api_key_file_readable_by_everybody", extra={"path": path})

    def admit(self, headers: Iterable[Header]) -> bool:
        """Whether `authorization: Bearer KEY` or `api-key: KEY` is there with a key of the file.

        Raises UnusableKeys when the file has none any more: then nobody is let in.
        """
        self._look()
        given = [_digest(key.encode("latin-1")) for key in _offered(tuple(headers))]
        # All of them are compared, so that the time does not tell which one it was.
        matches = [hmac.compare_digest(one, other) for one in given for other in self._digests]
        return any(matches)

    def _look(self) -> None:
        try:
            if self._seen is None or _signature(os.stat(self._path)) != self._seen:
                self._read()
            problem = None
        except (OSError, UnusableKeys) as error:
            self._seen, self._digests = None, ()
            problem = str(error)
        if problem != self._problem:
            log.log(logging.ERROR if problem else logging.INFO, "api_keys_changed", extra={"problem": problem})
            self._problem = problem
        if problem is not None:
            raise UnusableKeys(problem)

    def _read(self) -> os.stat_result:
        found, given = read_keys(self._path)
        self._digests = tuple(map(_digest, dict.fromkeys(given)))
        is_young = time.time_ns() - found.st_mtime_ns < _YOUNG_NS
        self._seen = None if is_young else _signature(found)
        return found


def _offered(headers: tuple[Header, ...]) -> Iterator[str]:
    """What the caller offers as a key: the first header of each name."""
    scheme, _, token = (first(headers, "authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip()
    key = first(headers, "api-key")
    if key is not None:
        yield key


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_keys(path: str) -> tuple[os.stat_result, list[bytes]]:
    """The keys of a file, and what the system says about it. Raises UnusableKeys."""
    found, content = _content(path)
    return found, _parsed(path, content)


def _content(path: str) -> tuple[os.stat_result, bytes]:
    try:
        # Without waiting: a named pipe that nobody writes to would hold up everything.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            content = file.read(_MOST_BYTES + 1) if stat.S_ISREG(found.st_mode) else None
    except OSError as error:
        raise UnusableKeys(f"cannot read {path}: {error.strerror}") from error
    if content is None:
        raise UnusableKeys(f"{path} is not a file")
    if len(content) > _MOST_BYTES:
        raise UnusableKeys(f"{path} is larger than {_MOST_BYTES} bytes")
    return found, content


def _parsed(path: str, content: bytes) -> list[bytes]:
    lines = [(number, line.strip()) for number, line in enumerate(content.splitlines(), 1)]
    keys = [(number, line) for number, line in lines if line and not line.startswith(b"#")]
    for number, key in keys:
        if not _KEY.fullmatch(key):
            raise UnusableKeys(f"{path}, line {number}: a key is printable ASCII without spaces")
    if not keys:
        raise UnusableKeys(f"{path} has no key in it")
    return [key for _, key in keys]
