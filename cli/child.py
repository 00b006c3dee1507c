"""The agent as our child process: started, told signals, reaped, and never left behind."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

_SIGNALED = 128  # a shell reports a process that a signal ended as this and the signal's number
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Child:
    """A process in a group of its own, so that a terminal's Ctrl-C reaches it through us alone.

    Start it before there are other threads. `code` is its exit code once `ended` is set: 128 and the number of the
    signal where one ended it, as a shell says it.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Raises OSError where there is nothing to be executed."""
        self._process = subprocess.Popen(
            command, env=environment, process_group=0, preexec_fn=_last_wish() if sys.platform == "linux" else None
        )
        self.ended = asyncio.Event()
        self.code: int | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    def watch(self) -> None:
        """Reap it, and every orphan that this process inherits as a container's first. Call it on a running loop."""
        loop = asyncio.get_running_loop()
        # Not add_signal_handler: uvloop keeps this signal for itself.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: loop.call_soon_threadsafe(self._reap))
        self._reap()

    def send(self, number: int) -> None:
        """Pass a signal on; nothing happens once it has ended."""
        if self.code is None:
            os.kill(self.pid, number)

    async def stop(self, grace_seconds: float) -> None:
        """Ask it to end; what of its group is there after the grace, and after its own end, is ended."""
        self.send(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.ended.wait()
        self.kill()
        await self.ended.wait()

    def kill(self) -> None:
        """End what there is of its group, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                code = self._process.returncode = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else _SIGNALED - code
                self.ended.set()


def _last_wish() -> Callable[[], None]:
    """For between fork and exec: the child is asked to end when this process is killed."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_DIE_WITH_PARENT, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(_SIGNALED + signal.SIGTERM)

    return ask
