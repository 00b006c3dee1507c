"""What the figures were found on: the machine, the versions, the settings, and what else was running."""

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from examples import environments
from tests.bench.processes import file_system, processors
from tests.bench.servers import AZURE_REQUIREMENTS, Missing, nginx_version

AZURE_SETTINGS = (
    "default_model=gpt-4o, sse_keep_alive_interval_seconds=15, shutdown_grace_period_seconds=10 (those of its README), "
    "resilient_background off, in the resilient rows on"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One line for each thing that must be known to judge the figures."""

    processor: str
    processors: str
    system: str
    python: str
    sqlite: str
    log: str
    respool: str
    nginx: str
    azure: str
    azure_settings: str
    passthrough: str

    def lines(self) -> list[str]:
        return [f"{name.replace('_', ' ')}: {words}" for name, words in asdict(self).items()]


def describe(directory: Path) -> Machine:
    under_test, others = processors()
    return Machine(
        processor=_processor(),
        processors=f"{os.cpu_count()}; the server under test on {under_test}, the agent and the load on {others}"
        if shutil.which("taskset")
        else f"{os.cpu_count()}; nothing is pinned, taskset is missing",
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        log=f"synchronous=NORMAL (FULL where said) on {file_system(directory)}",
        respool=f"{importlib.metadata.version('respool')}{_commit()}",
        nginx=_nginx(),
        azure=AZURE_REQUIREMENTS.with_suffix(".in").read_text().strip(),
        azure_settings=AZURE_SETTINGS,
        passthrough=", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("quart", "httpx", "hypercorn")),
    )


def load_average() -> float:
    """Of the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(environments.REPOSITORY), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({done.stdout.strip()})"


def _nginx() -> str:
    try:
        return f"{nginx_version()}, proxy_buffering off, one worker"
    except Missing as error:
        return f"missing ({error})"
