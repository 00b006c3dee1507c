"""What the kernel knows of processes, processors and file systems; Linux."""

import os
import resource
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all that it started and that still runs."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have used, all their threads, user and system."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    """In ns as the scheduler counts; in ticks where it does not tell."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, IndexError):
        after_the_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_the_name[11]) + int(after_the_name[12])) / _TICKS


def memory_bytes(pids: Iterable[int], field: str = "VmRSS") -> int:
    """Resident memory, now or with "VmHWM" at its highest."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
    return total


def processors() -> tuple[int, int]:
    """Which one the server under test has to itself, and which one the agent and the load share."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def pinned(command: Iterable[str], processor: int) -> list[str]:
    """The command, held to one processor where taskset is installed."""
    taskset = shutil.which("taskset")
    return [*([taskset, "-c", str(processor)] if taskset else []), *command]


def allow_many_files() -> int:
    """Raise the limit of open files as far as it goes, for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def file_system(place: Path) -> str:
    """The type of the file system that holds a directory, such as ext4, overlay or tmpfs."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounts.append((Path(before.split()[4].replace("\\040", " ")), after.split()[0]))
    held = [(len(point.parts), kind) for point, kind in mounts if place.resolve().is_relative_to(point)]
    # The last of those that are as deep lies over the others.
    return max(reversed(held), key=lambda found: found[0])[1]
