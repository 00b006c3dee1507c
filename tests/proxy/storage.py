"""A log whose commits a test can hold back and see coming."""

from collections.abc import Sequence

from respool.store.backend import Write
from respool.store.base import Head, Key, StoreError
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from tests.serving import until
from tests.store.probe import Probe

GIVEN_ID = "caresp_" + "s" * 50
KEY = Key("", GIVEN_ID)
CHOSEN = {"x-agent-response-id": GIVEN_ID}


class Turnstile(Probe):
    """A probe that tells which transactions have come to its gate."""

    def __init__(self) -> None:
        super().__init__(MemoryBackend())
        self.log = Log(self)
        self.asked: list[Write] = []
        self.heads = 0

    async def commit(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        self.asked += writes
        return await super().commit(writes)

    async def head(self, key: Key) -> Head:
        self.heads += 1
        return await super().head(key)

    async def comes(self, kind: type[Write]) -> None:
        """Until a write of that kind has come to the gate since it was closed."""
        await until(lambda: any(isinstance(write, kind) for write in self.asked))

    async def queued(self, count: int = 1) -> None:
        """Until as many writes stand behind the one at the gate."""
        await until(lambda: len(self.log._commits._queue) == count)

    def close_gate(self) -> None:
        self.asked.clear()
        self.gate.clear()
