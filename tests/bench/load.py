"""The load generator, a process of its own that is asked for jobs in lines of JSON; and the end of it that asks."""

import asyncio
import gc
import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

import uvloop

from tests.bench.jobs import JOBS, Figures
from tests.bench.processes import pinned


class Failed(Exception):
    """A job could not be done; the message says why."""


class Load:
    """A load generator on one processor; one that is `nice` leaves it to the others who want it."""

    def __init__(self, processor: int, nice: int = 0) -> None:
        command = pinned([sys.executable, "-m", "tests.bench.load", str(nice)], processor)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, job: str, limit: float = 120, **given: Any) -> Figures:
        """Do a job and give its figures. Raises Failed, also when it takes longer than `limit` seconds."""
        self.start(job, limit, **given)
        return self.result()

    def start(self, job: str, limit: float = 120, **given: Any) -> None:
        """Begin a job; its figures must be fetched before the next."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, "limit": limit, "given": given}) + "\n")
        self._process.stdin.flush()

    def result(self) -> Figures:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"failed": "the load generator has died"}
        if "failed" in told:
            raise Failed(told["failed"])
        return told


async def _do(job: str, limit: float, given: dict[str, Any]) -> Figures:
    try:
        async with asyncio.timeout(limit):
            return await JOBS[job](**given)
    except TimeoutError:
        return {"failed": f"not done after {limit:g} s"}
    except (OSError, ValueError) as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Serve jobs until standard input ends; each in a loop of its own, so that nothing stays behind."""
    gc.disable()
    os.nice(int(sys.argv[1]))
    for line in sys.stdin:
        asked = json.loads(line)
        told = uvloop.run(_do(asked["job"], asked["limit"], asked["given"]))
        os.write(1, json.dumps(told).encode() + b"\n")
        gc.collect()


if __name__ == "__main__":
    main()
