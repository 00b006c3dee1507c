"""The rooms of the house and what may come into each: who imports whom, read from the sources."""

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

STANDARD = set(sys.stdlib_module_names)
OUTSIDE_WORLD = {
    *("asyncio", "concurrent", "datetime", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random"),
    *("secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "sqlite3", "subprocess", "tempfile"),
    *("threading", "time", "urllib", "uuid"),
}
"""What protocol/ has handed in: I/O, time, entropy, words about itself."""


def imports(room: str) -> Iterator[tuple[str, str]]:
    """Each module of a package, by its file name, with each module or name that it imports, dotted."""
    folder = Path(import_module(room).__file__ or "").parent
    sources = list(folder.rglob("*.py"))
    assert sources
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((source.name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((source.name, f"{node.module}.{alias.name}") for alias in node.names)


def is_in(module: str, *packages: str) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def strangers(room: str, *welcome: str) -> list[tuple[str, str]]:
    return [(source, module) for source, module in imports(room) if not is_in(module, *welcome)]


def test_the_protocol_knows_itself_and_the_words_of_the_lifecycle() -> None:
    pure = STANDARD - OUTSIDE_WORLD
    ours = ("respool.proxy.protocol", "respool.store.status")
    assert strangers("respool.proxy.protocol", *pure, "orjson", "pydantic", *ours) == []


def test_the_store_knows_itself_and_its_drivers() -> None:
    assert strangers("respool.store", *STANDARD, "aiosqlite", "respool.store") == []


def test_nobody_imports_the_command_line_but_the_command_line() -> None:
    rooms = ("respool.proxy", "respool.store")
    assert [found for room in rooms for found in imports(room) if is_in(found[1], "respool.cli")] == []


def test_only_the_command_line_draws_on_a_terminal() -> None:
    rooms = ("respool.proxy", "respool.store")
    assert [found for room in rooms for found in imports(room) if is_in(found[1], "typer", "rich", "click")] == []


def test_nothing_but_a_test_can_arm_a_crash_point() -> None:
    rooms = ("respool.cli", "respool.proxy", "respool.store")
    taken = {name for room in rooms for _, name in imports(room) if "crashpoint" in name}
    assert taken == {"respool.store.crashpoint.Point", "respool.store.crashpoint.reach"}


def test_the_walk_sees_what_is_imported() -> None:
    assert ("repair.py", "respool.store.status.Status") in set(imports("respool.proxy.protocol"))
    assert ("main.py", "typer") in set(imports("respool.cli"))
