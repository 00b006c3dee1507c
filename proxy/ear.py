"""Words for a task that waits: heard at once where it listens, and kept for later where it must not be disturbed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Word = TypeVar("Word")
Result = TypeVar("Result")


class Heard(Exception, Generic[Word]):
    """A word came while the task listened; what it waited for goes on undisturbed or was cancelled safely."""

    def __init__(self, word: Word) -> None:
        super().__init__(word)
        self.word = word


class Ear(Generic[Word]):
    """One task's ear. `tell` may be called from anywhere on the loop, any number of times.

    It costs no task and no timer: a word cancels what the listening task awaits, and the cancellation ends here, as in
    `asyncio.timeout`. So what is awaited must lose nothing by being cancelled.
    """

    __slots__ = ("_listening", "_words")

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._listening: asyncio.Task[object] | None = None

    def tell(self, word: Word) -> None:
        """Say a word. It is heard once, by the next or the running `listen`."""
        self._words.append(word)
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    def heard(self, word: Word) -> Exception:
        """What `listen` raises for a word."""
        return Heard(word)

    async def listen(self, wait: Callable[[], Awaitable[Result]]) -> Result:
        """What `wait()` gives. Raises Heard when a word comes first."""
        if self._words:
            raise self.heard(self._words.pop(0))
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can listen")
        self._listening = task
        try:
            result = await wait()
        except asyncio.CancelledError:
            if self._listening is None and task.uncancel() == 0:
                raise self.heard(self._words.pop(0)) from None
            raise
        else:
            if self._listening is None:
                # It finished in spite of the cancellation: the result counts, the word is heard next time.
                task.uncancel()
            return result
        finally:
            self._listening = None
