"""A log that cannot be served: one line that says why, and exit code 4."""

import os
import subprocess
import sys
from pathlib import Path

from respool.store.open import open_store
from tests.disk.places import disk, like_anybody
from tests.serving import start_respool
from tests.store.probe import head

NOBODY = "http://127.0.0.1:1"


def refused(store: Path) -> str:
    """The one line of a respool that does not start."""
    command = [sys.executable, "-m", "respool.cli", "serve", "--upstream", NOBODY, "--listen", "127.0.0.1:0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESPOOL_")}
    done = subprocess.run(
        [*command, "--store", f"sqlite:///{store}"],
        capture_output=True,
        text=True,
        env=kept,
        preexec_fn=like_anybody,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    (line,) = done.stderr.splitlines()
    opening = f"respool: cannot open sqlite:///{store}: "
    assert line.startswith(opening)
    return line.removeprefix(opening)


async def made(path: Path) -> Path:
    """A log with an orphan in it, as a process that died leaves it."""
    path.parent.mkdir(exist_ok=True)
    store = await open_store(f"sqlite:///{path}")
    await store.create(head(), b"{}")
    await store.close()
    return path


def test_a_log_that_is_served_is_refused_by_another_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    server = start_respool(NOBODY, tmp_path / "served")
    (tmp_path / "link.db").hardlink_to(tmp_path / "served" / "respool.db")
    assert "is held by another process" in refused(tmp_path / "link.db")
    assert not (tmp_path / "link.db-wal").exists()
    server.stop()


async def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = await made(tmp_path / "x.db")
    path.chmod(0o400)
    assert refused(path) == "SQLite: attempt to write a readonly database"


async def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = await made(tmp_path / "x.db")
    path.chmod(0)
    assert refused(path) == f"{path}: Permission denied"


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = await made(tmp_path / "folder" / "x.db")
    path.parent.chmod(0o500)
    assert refused(path) == "SQLite: attempt to write a readonly database"
    assert refused(path.parent / "new.db") == f"{path.parent}/new.db.lock: Permission denied"


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "SQLite: unable to open database file" in refused(tmp_path)


def test_a_disk_that_is_read_only_is_refused(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 2**20) as place:
        place.make_read_only()
        assert refused(place.path / "x.db") == f"{place.path}/x.db.lock: Read-only file system"


async def test_a_disk_that_is_full_is_refused(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 2**20) as place:
        path = await made(place.path / "x.db")
        with (place.path / "other").open("wb", buffering=0) as other:
            while free := place.free():
                other.write(bytes(min(free, 4096)))
        assert refused(path) in (
            "SQLite: database or disk is full",
            "SQLite: disk I/O error",
            f"{path}.lock: No space left on device",
        )


async def test_a_damaged_log_is_refused(tmp_path: Path) -> None:
    path = await made(tmp_path / "x.db")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    assert "malformed" in refused(path)
