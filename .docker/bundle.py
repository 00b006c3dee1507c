"""Gather respool, Python and every library under them into one folder that runs in other images too.

    python bundle.py PACKAGES FOLDER [LIBRARY...]

PACKAGES is a folder with respool and its dependencies, FOLDER the result, each LIBRARY one that replaces the system's
of the same name. The dynamic loader and the C library come along and are called by path, so neither the image's C
library nor its Python matter, and no variable is set that a child process would inherit.
"""

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

UNUSED = ("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data")
UNUSED += ("dist-packages", "site-packages", "config-*", "EXTERNALLY-MANAGED")

LAUNCHER = """#!/bin/sh
# The loader is named by path: what runs here needs nothing of the image, and tells its children nothing.
here=$(readlink -f "$0")
here=${{here%/bin/*}}
exec "$here/lib/{loader}" --inhibit-cache --library-path "$here/lib" "$here/python/bin/{python}" -I{words} "$@"
"""

START = """\
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "packages"))

if __name__ == "__main__":
    from respool.cli.main import main

    sys.argv[0] = "respool"
    main()
"""


def main(packages: Path, folder: Path, *own: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    python = Path(os.path.realpath(sys.executable))
    home = folder / "python" / "lib" / stdlib.name
    shutil.copytree(stdlib, home, ignore=shutil.ignore_patterns(*UNUSED))
    shutil.copytree(packages, folder / "packages", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "python" / "bin").mkdir()
    shutil.copy(python, folder / "python" / "bin")
    loader = gather_libraries([python, *home.rglob("*.so"), *(folder / "packages").rglob("*.so*")], folder, own)
    (folder / "start.py").write_text(START)
    (folder / "bin").mkdir()
    for name, words in (("respool", ' "$here/start.py"'), ("python", "")):
        launcher = folder / "bin" / name
        launcher.write_text(LAUNCHER.format(loader=loader, python=python.name, words=words))
        launcher.chmod(0o755)
    # Nobody can write these files later, and their times may change when they are copied.
    mode = compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, invalidation_mode=mode, stripdir=folder)


def gather_libraries(binaries: list[Path], folder: Path, own: tuple[Path, ...]) -> str:
    """Copy every library that the binaries need; the name of the loader."""
    needed = {path.name: path for binary in binaries for path in libraries_of(binary)}
    needed |= {path.name: path for path in own}
    (folder / "lib").mkdir()
    for path in needed.values():
        if not path.is_relative_to(folder):
            shutil.copy(path, folder / "lib" / path.name)
    (loader,) = (name for name in needed if name.startswith("ld-linux"))
    (folder / "lib" / loader).chmod(0o755)
    return loader


def libraries_of(binary: Path) -> Iterator[Path]:
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        if found := re.match(r"\s+(?:\S+ => )?(/\S+) \(0x", line):
            yield Path(found[1])
        elif "not found" in line:
            raise SystemExit(f"{binary}:{line}")


main(*map(Path, sys.argv[1:]))
