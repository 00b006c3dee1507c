"""`respool`, which kills itself at a crash point: python -m tests.crash.armed POINT K now|TOLD serve ...

It dies when it passes the point for the K-th time, counted from its start or from when the file TOLD is there.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from respool.cli.main import main
from respool.store import crashpoint
from respool.store.crashpoint import Point


def killing(at: Point, passing: int, told: Path | None) -> Callable[[Point], None]:
    """A hook that ends this process with SIGKILL when it passes `at` for the time numbered `passing`, from 1."""
    left = passing

    def pass_by(point: Point) -> None:
        nonlocal left
        if point is at and (told is None or told.exists()):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return pass_by


if __name__ == "__main__":
    name, passing, when = sys.argv[1:4]
    crashpoint.arm(killing(Point[name], int(passing), None if when == "now" else Path(when)))
    del sys.argv[1:4]
    main()
