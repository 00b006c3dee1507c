"""Who is being read: what expires waits for its readers, and not for ever."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from respool.store.base import Key

SPARED_SECONDS = 600.0
"""How long the readers of a response can put off its expiry, all together."""


class Readings:
    """The responses that have readers, and since when that has kept one from expiring. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._readers: Counter[Key] = Counter()
        self._delayed_since: dict[Key, float] = {}

    @contextmanager
    def of(self, key: Key) -> Iterator[None]:
        """One reader, as long as the block runs."""
        self._readers[key] += 1
        try:
            yield
        finally:
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key]

    def spared(self) -> frozenset[Key]:
        """What must not expire now."""
        past = self._clock() - SPARED_SECONDS
        return frozenset(key for key in self._readers if self._delayed_since.get(key, past + 1) > past)

    def delayed(self, keys: Iterable[Key], *, are_all: bool) -> None:
        """These are due and were spared: their time runs from the first time on. `are_all` if no others are."""
        now = self._clock()
        others = {} if are_all else self._delayed_since
        self._delayed_since = {**others, **{key: self._delayed_since.get(key, now) for key in keys}}
