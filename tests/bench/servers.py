"""How the agent and each server under test is started, and where it runs."""

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from examples import environments
from tests.bench.load import Failed, Load
from tests.bench.processes import family, file_system, pinned, processors

AZURE_REQUIREMENTS = environments.REPOSITORY / "tests" / "agents" / "responses_requirements.txt"
_VOLATILE = frozenset({"tmpfs", "ramfs"})
_places = count()


class Missing(Exception):
    """A server is not installed here; the message says how it would be."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is up: where it listens, its processes (none for the agent itself), its directory."""

    name: str
    port: int
    pids: list[int]
    place: Path


@dataclass(frozen=True, slots=True)
class Ground:
    """What all cases stand on: the agent, the load generators and a directory on a real disk.

    The server under test has the first of the `processors`, everything else the second.
    """

    directory: Path
    agent_port: int
    load: Load
    second: Load
    processors: tuple[int, int]

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.agent_port}"

    def prepare(self, deltas: int) -> None:
        """Let the agent encode a burst before it is timed."""
        with urllib.request.urlopen(f"{self.upstream}/prepare/{deltas}") as answer:
            answer.read()

    @contextmanager
    def up(self, *names: str) -> Iterator[list[Target]]:
        """These servers, new, each in a directory of its own, but for those missing here. Raises Failed."""
        with ExitStack() as stack:
            targets = []
            for name in names:
                place = self.directory / f"{next(_places)}-{name}"
                place.mkdir()
                stack.callback(shutil.rmtree, place, ignore_errors=True)
                try:
                    targets.append(stack.enter_context(STARTERS[name](self, name, place)))
                except Missing:
                    continue
                except environments.NotStarted as error:
                    raise Failed(f"{name} {error}") from error
            yield targets


@contextmanager
def ground(directory: Path) -> Iterator[Ground]:
    """Start the agent and the load generators. Raises ValueError where the disk is none."""
    kind = file_system(directory)
    if kind in _VOLATILE:
        raise ValueError(f"{directory} is on {kind}, where durability costs nothing: name a disk with --directory")
    under_test, others = processors()
    port = environments.free_port()
    command = pinned([sys.executable, "-m", "tests.bench.agent", str(port)], others)
    agent = environments.start(command, port, ready="/readiness", log=directory / "agent.log")
    try:
        with Load(others) as load, Load(others, nice=19) as second:
            yield Ground(directory, port, load, second, (under_test, others))
    finally:
        agent.stop()


@contextmanager
def _direct(ground: Ground, name: str, place: Path) -> Iterator[Target]:
    yield Target(name, ground.agent_port, [], place)


@contextmanager
def _respool(ground: Ground, name: str, place: Path) -> Iterator[Target]:
    port = environments.free_port()
    synchronous = "full" if name.endswith("full") else "normal"
    command = [
        *(sys.executable, "-m", "respool.cli", "serve", "--upstream", ground.upstream),
        *("--listen", f"127.0.0.1:{port}", "--store", f"sqlite:///{place / 'respool.db'}"),
        *("--synchronous", synchronous),
    ]
    with _started(ground, name, command, port, place, "/_respool/health") as target:
        yield target


@contextmanager
def _plain(ground: Ground, name: str, place: Path) -> Iterator[Target]:
    port = environments.free_port()
    command = [sys.executable, "-m", "tests.bench.passthrough", str(port), ground.upstream]
    with _started(ground, name, command, port, place, "/readiness") as target:
        yield target


@contextmanager
def _bare(ground: Ground, name: str, place: Path) -> Iterator[Target]:
    port = environments.free_port()
    with _started(ground, name, [sys.executable, "-m", "tests.bench.bare", str(port)], port, place, "/ready") as target:
        yield target


@contextmanager
def _azure(ground: Ground, name: str, place: Path) -> Iterator[Target]:
    port = environments.free_port()
    resilient = ["--resilient"] if name.endswith("resilient") else []
    command = [str(azure_python()), "-m", "tests.bench.azure_agent", *resilient]
    told = {"PORT": str(port), "AGENTSERVER_STATE_ROOT": str(place), "AGENT_APP_INSIGHTS_ENABLED": "false"}
    with _started(ground, name, command, port, place, "/readiness", told) as target:
        yield target


def azure_python() -> Path:
    """The interpreter that has Azure's SDK; its environment is made on first use. Raises Missing."""
    try:
        return environments.python_with(AZURE_REQUIREMENTS, "responses")
    except environments.Unavailable as error:
        raise Missing(f"Azure's SDK: {error}") from error


NGINX = """\
worker_processes 1;
worker_rlimit_nofile 65536;
daemon off;
{user}
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    default_type text/event-stream;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /files/ {{ alias {place}/files/; }}
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 3600s;
        }}
    }}
}}
"""


def nginx_binary() -> str:
    """Where nginx is. Raises Missing."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Missing("nginx: apt-get install nginx-light")
    return found


@contextmanager
def _nginx(ground: Ground, name: str, place: Path) -> Iterator[Target]:
    binary, port = nginx_binary(), environments.free_port()
    (place / "files").mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    config = place / "nginx.conf"
    config.write_text(NGINX.format(place=place, port=port, upstream=ground.upstream, user=user))
    command = [binary, "-p", str(place), "-e", str(place / "error.log"), "-c", str(config)]
    with _started(ground, name, command, port, place, "/readiness") as target:
        yield target


@contextmanager
def _started(
    ground: Ground,
    name: str,
    command: Sequence[str],
    port: int,
    place: Path,
    ready: str,
    told: dict[str, str] | None = None,
) -> Iterator[Target]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_PASSED_ON)}
    server = environments.start(
        pinned(command, ground.processors[0]),
        port,
        ready=ready,
        log=place / "output.log",
        environment={**kept, **(told or {})},
    )
    try:
        yield Target(name, port, family(server.process.pid), place)
    finally:
        server.stop()


_NOT_PASSED_ON = (*environments.NOT_FOR_AGENTS, "RESPOOL_")

STARTERS = {
    "direct": _direct,
    "nginx": _nginx,
    "plain": _plain,
    "azure": _azure,
    "azure resilient": _azure,
    "respool": _respool,
    "respool full": _respool,
    "bare": _bare,
}

TITLES = {
    "direct": "direct",
    "nginx": "nginx",
    "plain": "pass-through",
    "azure": "Azure SDK",
    "azure resilient": "Azure SDK, resilient",
    "respool": "respool",
    "respool full": "respool, FULL",
    "bare": "bare follower",
}


def missing(servers: Sequence[str]) -> list[str]:
    """What of these servers is not installed here."""
    words = []
    for name, look in (("nginx", nginx_binary), ("azure", azure_python)):
        if name not in servers:
            continue
        try:
            look()
        except Missing as error:
            words.append(str(error))
    return words


def nginx_version() -> str:
    done = subprocess.run([nginx_binary(), "-v"], capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("/")[2]
