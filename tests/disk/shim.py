"""The shim that makes SQLite's calls fail, as a test commands it: see shim.c."""

import mmap
import os
import shutil
import struct
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("shim.c")
_LAYOUT = struct.Struct("=Iiqqqq256s")
FOR_EVER = 2**60
HANGS = 0


class Kind(IntEnum):
    """What can be made to fail: statements of SQLite, or system calls on the files of a folder."""

    STEP = 0
    WRITE = 1
    READ = 2
    SYNC = 3
    LOCK = 4


class Shim:
    """The control of the shim in one process, started with `environment`; calls fail in files below `folder`."""

    def __init__(self, library: Path, control: Path, folder: Path) -> None:
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "RESPOOL_SHIM": str(control)}
        self._folder = os.fsencode(folder.resolve())
        with control.open("w+b") as file:
            file.truncate(_LAYOUT.size)
            self._control = mmap.mmap(file.fileno(), _LAYOUT.size)

    def arm(self, kind: Kind, error: int, first: int = 1, count: int = 1) -> None:
        """From now on the `first`-th call of that kind fails with `error`, and `count` in all.

        `error` is an errno, or a result code of SQLite where `kind` is STEP; HANGS until it is disarmed.
        """
        self.disarm()
        self._control[:] = _LAYOUT.pack(0, error, first, count, 0, 0, self._folder)
        self._control[:4] = struct.pack("=I", 1 << kind)

    def disarm(self) -> None:
        """From now on nothing fails."""
        self._control[:4] = struct.pack("=I", 0)

    @property
    def failed(self) -> int:
        """How many calls have failed, or hang, since it was armed."""
        failed: int = _LAYOUT.unpack(self._control[:])[5]
        return failed


def compiled(folder: Path) -> Path:
    """The shim as a library in `folder`; the test is skipped where there is no compiler."""
    if shutil.which("gcc") is None and not os.environ.get("CI"):
        pytest.skip("there is no gcc")
    library = folder / "shim.so"
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(library),
        str(_SOURCE),
        "-ldl",
    ]
    subprocess.run(command, check=True)
    return library
