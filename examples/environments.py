"""What an agent needs to run here: an environment of its own, a free port, and a sign that it is ready.

Agents have their SDKs' dependencies, which are none of respool's; so each set of locked requirements gets a virtual
environment, made on first use. Standard library alone.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

STARTING_SECONDS = 120

# With these an agent would take itself for one that is hosted, and report to whom they name.
NOT_FOR_AGENTS = ("AGENT_", "APPLICATIONINSIGHTS_", "AZURE_", "FOUNDRY_", "OTEL_")


class Unavailable(Exception):
    """An environment could not be made, most likely because the package registry could not be reached."""


class NotStarted(Exception):
    """A server ended, or stayed silent, before it was ready; the message carries the end of its log."""


def home() -> Path:
    """Where environments are kept: RESPOOL_AGENTS_HOME, else .agents in the repository."""
    return Path(os.environ.get("RESPOOL_AGENTS_HOME") or REPOSITORY / ".agents").resolve()


def made(requirements: Path, name: str) -> bool:
    """Whether the environment is there already."""
    place = _place(requirements, name)
    return (place / ".ready").exists() and _python(place).exists()


def python_with(requirements: Path, name: str) -> Path:
    """The interpreter of the environment that holds exactly these requirements; made on first use, by one process.

    Raises Unavailable with the installer's own words.
    """
    place = _place(requirements, name)
    with _locked(place.parent / ".lock"):
        if not made(requirements, name):
            shutil.rmtree(place, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(place))
            _run(str(_python(place)), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements))
            (place / ".ready").touch()
    return _python(place)


def _place(requirements: Path, name: str) -> Path:
    made_from = f"{sys.version_info[:2]}\n{requirements.read_text()}"
    return home() / name / hashlib.sha256(made_from.encode()).hexdigest()[:12]


def _python(place: Path) -> Path:
    return place / "bin" / "python"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable("\n".join([" ".join(command), *(done.stdout + done.stderr).splitlines()[-5:]]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that was started here; stop() or kill() must be called, and may be called again."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self, grace_seconds: float = 5) -> int:
        """Ask it to end (SIGTERM), end it when it has not after the grace, and give its exit code."""
        self.process.terminate()
        try:
            self.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self._gone()

    def kill(self) -> int:
        """End it at once (SIGKILL), as a crash would."""
        self.process.kill()
        return self._gone()

    def _gone(self) -> int:
        if self.process.stdin:
            self.process.stdin.close()
        return self.process.wait()


def start(
    command: Sequence[str], port: int, *, ready: str, log: Path, environment: Mapping[str, str] | None = None
) -> Server:
    """Start a server that will listen on 127.0.0.1:port, and return when GET of the path `ready` answers 200.

    Its output goes to `log`; its standard input is a pipe that ends when this process does. `environment` is the whole;
    None is this process's own. Raises NotStarted.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=REPOSITORY,
        )
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        _await(server, server.url + ready)
    except BaseException:
        server.kill()
        raise
    return server


def _await(server: Server, url: str) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while not _answers(url):
        if server.process.poll() is not None:
            raise NotStarted(f"ended with code {server.process.returncode}:\n{tail(server.log)}")
        if time.monotonic() > deadline:
            raise NotStarted(f"no answer from {url}:\n{tail(server.log)}")
        time.sleep(0.02)


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.HTTPError, OSError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        return False


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def start_agent(
    python: Path, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Server:
    """Start an agent's code with the interpreter of its environment; `command` is the script or `-m` and the module."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_FOR_AGENTS)}
    told = {"AGENT_APP_INSIGHTS_ENABLED": "false", "DEFAULT_AD_PORT": str(port), "PORT": str(port)}
    return start(
        [str(python), *command],
        port,
        ready="/readiness",
        log=log,
        environment={**kept, **told, **(environment or {})},
    )
