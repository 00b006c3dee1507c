"""Pages that several readers have asked for: the history of an answer that many come back to is read once."""

from collections import OrderedDict

from respool.store.base import Key, Page
from respool.store.tail import cost

_NOTED = 1024
"""How many pages are noted that were asked for once."""

_Place = tuple[int, int]
"""What was asked for: the events after a number, and so many bytes of them."""


class Pages:
    """The pages read last of those that were read before, `most_bytes` of memory at most.

    One that is read for the first time is only noted: a lone reader of a long history leaves nothing behind.
    What a page says stays true until its response is deleted: events never change, and who reads behind the last one
    asks again. `dropped` counts deletions: whoever read a page while it changed must not keep it.
    """

    def __init__(self, most_bytes: int) -> None:
        self.dropped = 0
        self._most = self._room = most_bytes
        self._noted: OrderedDict[tuple[Key, _Place], None] = OrderedDict()
        self._kept: OrderedDict[Key, dict[_Place, Page]] = OrderedDict()

    def get(self, key: Key, after: int, max_bytes: int) -> Page | None:
        """The page, if it was kept."""
        pages = self._kept.get(key)
        if pages is None:
            return None
        self._kept.move_to_end(key)
        return pages.get((after, max_bytes))

    def keep(self, key: Key, after: int, max_bytes: int, page: Page) -> None:
        """Keep a page that was just read, or note it. One without events is none."""
        place = after, max_bytes
        if not page.chunks or _size(page) > self._most // 4 or not self._is_noted((key, place)):
            return
        if place in self._kept.get(key, ()):
            return  # others have read it meanwhile
        self._kept.setdefault(key, {})[place] = page
        self._kept.move_to_end(key)
        self._room -= _size(page)
        while self._room < 0:
            self._forget(next(iter(self._kept)))

    def drop(self, key: Key) -> None:
        """Forget the pages of a response."""
        self.dropped += 1
        if key in self._kept:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        self._room += sum(map(_size, self._kept.pop(key).values()))

    def _is_noted(self, asked: tuple[Key, _Place]) -> bool:
        """Whether it was asked for before; it is noted now."""
        was_noted = asked in self._noted
        self._noted[asked] = None
        self._noted.move_to_end(asked)
        if len(self._noted) > _NOTED:
            self._noted.popitem(last=False)
        return was_noted


def _size(page: Page) -> int:
    return sum(map(cost, page.chunks))
