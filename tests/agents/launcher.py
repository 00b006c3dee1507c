"""Starts the real test agents, and what a test may do with one: open its gates, read its work log, end it."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from examples import environments
from tests.agents.control import Gate, Step, WorkLog

Name = Literal["core", "langgraph", "responses"]

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "examples"

REQUIREMENTS: dict[Name, Path] = {
    "core": EXAMPLES / "core_agent" / "requirements.txt",
    "langgraph": EXAMPLES / "langgraph_agent" / "requirements.txt",
    "responses": HERE / "responses_requirements.txt",
}


@dataclass(frozen=True, slots=True)
class Agent:
    """A test agent that runs in a process of its own.

    `gate 20 KEY` as the input streams tok0 .. tok19, each when it is released by `release(KEY)`.
    """

    url: str
    control: Path
    server: environments.Server

    def release(self, key: str, tokens: int = 1) -> None:
        Gate(self.control, key).release(tokens)

    def release_all(self, key: str) -> None:
        Gate(self.control, key).release_all()

    def steps(self, run: str | None = None) -> list[Step]:
        """The work log, of one run or of all."""
        return [step for step in WorkLog(self.control).steps() if run in (None, step.run)]

    def runs(self, text: str) -> list[str]:
        """The runs that were called with exactly this input text, in order; two are a request that was sent twice."""
        return [step.run for step in self.steps() if (step.word, step.detail) == ("CALLED", text)]

    def words(self, text: str) -> list[str]:
        """What became of this input, over all its runs: CALLED, TOKEN.., COMPLETED or CANCELLED."""
        runs = self.runs(text)
        return [step.word for step in self.steps() if step.run in runs]

    async def logged(self, text: str, word: str, times: int = 1) -> None:
        """Wait until the agent has logged this word for this input."""
        while self.words(text).count(word) < times:  # noqa: ASYNC110 - the other side is a process
            await asyncio.sleep(0.005)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self.server.kill()

    def stop(self) -> None:
        """Ask the process to end; it lets its open streams end first, for at most 5 s."""
        self.server.stop()


def launch(name: Name, directory: Path) -> Agent:
    """Start a test agent that keeps its control files and its output in a directory of its own.

    Where its environment cannot be made, the test is skipped, and fails where CI is set.
    """
    python = _python(name)
    server = environments.start_agent(
        python,
        ["-m", f"tests.agents.{name}_agent"],
        directory / "output.log",
        {"RESPOOL_TEST_CONTROL": str(directory)},
    )
    return Agent(server.url, directory, server)


def _python(name: Name) -> Path:
    try:
        return environments.python_with(REQUIREMENTS[name], name)
    except environments.Unavailable as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no environment for the {name} agent, and none can be made now: {missing}")
