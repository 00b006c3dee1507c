"""What the tests of this folder share: the library that stands between a process and its files."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shim.c, compiled for LD_PRELOAD."""
    compiler = shutil.which("gcc")
    if compiler is None and not os.environ.get("CI"):
        pytest.skip("no gcc to compile shim.c with")
    built = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread"]
    command = [compiler or "gcc", *options, "-o", str(built), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return built
