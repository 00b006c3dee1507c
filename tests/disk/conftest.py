"""The shim, compiled once."""

from pathlib import Path

import pytest

from tests.disk.shim import compiled


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to be loaded before a process's own."""
    return compiled(tmp_path_factory.mktemp("shim"))
