"""What `pip install respool` puts into somebody's environment."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ROOMS = ("cli", "proxy", "store")

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel as pip builds it, from a copy: a build leaves files behind that would find their way into the next."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), str(source)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return ZipFile(next(built.glob("*.whl")))


def sources() -> set[str]:
    """What belongs into the package: the code, its type marker and its statements."""
    return {
        f"respool/{path.relative_to(REPOSITORY)}"
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*")
        if path.suffix in {".py", ".sql", ".json"} or path.name == "py.typed"
    }


def test_nothing_but_respool_is_installed(wheel: ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"respool"}


def test_every_module_statement_and_type_marker_is_in_the_wheel(wheel: ZipFile) -> None:
    packaged = {name for name in wheel.namelist() if name.startswith("respool/")}
    assert packaged == sources()


def test_the_command_is_installed(wheel: ZipFile) -> None:
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "respool = respool.cli.main:main" in wheel.read(entry_points).decode()
