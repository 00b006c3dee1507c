"""The image, built once for all tests of it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image import engine as engines
from tests.image.engine import Engine, Image

AGENT = Path(__file__).parents[1] / "running" / "agent.py"
EXAMPLE = Path(__file__).parents[2] / "examples" / "azure"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With the repository's image built. Skipped where none can be built; where CI is set it must be."""
    reason = engines.missing()
    if reason is not None:
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("image")
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o005 != 0o005:
            above.chmod(above.stat().st_mode | 0o055)  # the user inside enters through them
    builder = Engine(folder)
    builder.make_bases()
    builder.build("respool")
    yield builder
    builder.close()


@pytest.fixture(scope="session")
def image(engine: Engine) -> Image:
    """What the Dockerfile makes."""
    return engine.unpack("respool")


@pytest.fixture(scope="session")
def wrapped(engine: Engine) -> Image:
    """An agent's image with respool in it, as the example makes it."""
    engine.make_agent("agent", AGENT)
    engine.build("wrapped", EXAMPLE, RESPOOL="localhost/respool", AGENT="localhost/agent")
    return engine.unpack("wrapped")


@pytest.fixture
def bare(image: Image, tmp_path: Path) -> Image:
    """Another image, with a shell and this machine's C library, without Python, into which /opt/respool was copied."""
    root = tmp_path / "bare"
    for program in ("/bin/sh", "/usr/bin/readlink", "/usr/bin/env", "/usr/bin/id"):
        for file in (Path(program), *_libraries_of(program)):
            (root / file.parent.relative_to("/")).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file.relative_to("/"))
    for folder in ("proc", "dev", "mnt"):
        (root / folder).mkdir()
    shutil.copytree(image.root / "opt" / "respool", root / "opt" / "elsewhere", symlinks=True)
    return Image(root, {"Env": ["PATH=/usr/bin:/bin"]})


def _libraries_of(program: str) -> list[Path]:
    words = engines.run("ldd", program).split()
    return [Path(word) for word in words if word.startswith("/")]
