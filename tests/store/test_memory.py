"""The memory backend, under the suite of all backends."""

import pytest

from respool.store.memory import MemoryBackend
from tests.store.conformance import Conformance


class TestMemory(Conformance):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
