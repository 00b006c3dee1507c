"""`respool run -- COMMAND`: the agent as a child, respool in front of it, one exit code."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from examples.environments import free_port
from respool.store.lock import Lock

AGENT = Path(__file__).with_name("agent.py")
RESPOOL = (sys.executable, "-m", "respool.cli", "run")
BACKGROUND = {"input": "x", "background": True, "stream": True}


class Wrapped:
    """`respool run` as a process, its agent, and what the agent noted in `folder`/log."""

    def __init__(self, folder: Path, *options: str, prefix: tuple[str, ...] = (), **variables: str) -> None:
        self.folder = folder
        self.port, self.agent_port = free_port(), free_port()
        self.errors = folder / "errors"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RESPOOL_")}
        named = {"RESPOOL_STORE": f"sqlite:///{folder / 'respool.db'}", "RESPOOL_AGENT_PORT": str(self.agent_port)}
        listen = {} if "PORT" in variables else {"RESPOOL_LISTEN": f"127.0.0.1:{self.port}"}
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*prefix, *RESPOOL, *options, "--", sys.executable, str(AGENT), str(folder)],
                stderr=errors,
                env={**kept, **named, **listen, **variables},
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def agent_pid(self) -> int:
        (pid,) = (int(line.split()[1]) for line in self.log() if line.startswith("started"))
        return pid

    def await_note(self, words: str) -> None:
        self.until(lambda: any(line.startswith(words) for line in self.log()))

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.process.poll() is None or condition(), self.errors.read_text()
            time.sleep(0.005)

    def await_serving(self) -> None:
        self.until(lambda: " on http://" in self.errors.read_text())

    def ended(self) -> int:
        return self.process.wait(60)

    def refused(self) -> tuple[int, str]:
        return self.ended(), self.errors.read_text()

    def post(self) -> Iterator[str]:
        """The types of the events of a background stream."""
        with httpx.stream("POST", f"{self.url}/responses", json=BACKGROUND, timeout=60, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    yield line.removeprefix("event: ")


@pytest.fixture
def wrap(tmp_path: Path) -> Iterator[Callable[..., Wrapped]]:
    started: list[Wrapped] = []

    def start(*options: str, files: tuple[str, ...] = (), prefix: tuple[str, ...] = (), **variables: str) -> Wrapped:
        for file in files:
            name, _, content = file.partition("=")
            (tmp_path / name).write_text(content)
        started.append(Wrapped(tmp_path, *options, prefix=prefix, **variables))
        return started[-1]

    yield start
    for wrapped in started:
        (wrapped.folder / "go").touch()
        if wrapped.process.poll() is None:
            wrapped.process.terminate()
            wrapped.process.wait(60)


Start = Callable[..., Wrapped]


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


# --- starting


def test_the_agent_gets_its_port_in_all_variables_and_respool_serves_in_front(wrap: Start) -> None:
    wrapped = wrap("--port-env", "MY_PORT", files=("go",))
    wrapped.await_serving()
    (started,) = [line for line in wrapped.log() if line.startswith("started")]
    ports = json.loads(started.split(" ", 2)[2])
    assert ports == dict.fromkeys(("PORT", "DEFAULT_AD_PORT", "MY_PORT"), str(wrapped.agent_port))
    assert list(wrapped.post())[-1] == "response.completed"


def test_respool_listens_where_the_platform_wants_the_agent(tmp_path: Path, wrap: Start) -> None:
    port = free_port()
    wrapped = wrap("--listen", f"127.0.0.1:{port}", PORT=str(free_port()))
    wrapped.await_serving()
    assert f" on http://127.0.0.1:{port} " in wrapped.errors.read_text()


def test_the_help_says_where_it_listens_by_default() -> None:
    done = subprocess.run([*RESPOOL, "--help"], capture_output=True, text=True, check=True)
    assert "[default: 0.0.0.0:PORT]" in " ".join(done.stdout.split())


def test_nobody_is_served_before_the_agent_says_that_it_is_ready(wrap: Start) -> None:
    wrapped = wrap(files=("not_ready", "go"))
    wrapped.await_note("asked /readiness 503")
    with socket.create_connection(("127.0.0.1", wrapped.port)) as early:
        early.sendall(b"GET /readiness HTTP/1.1\r\nhost: a\r\n\r\n")
        (wrapped.folder / "not_ready").unlink()
        assert early.recv(12) == b"HTTP/1.1 200"
    readiness = [line for line in wrapped.log() if line.startswith("asked")]
    assert readiness[-2:] == ["asked /readiness 200"] * 2
    assert set(readiness[:-2]) == {"asked /readiness 503"}


def test_an_agent_without_that_route_is_ready_when_it_accepts_connections(wrap: Start) -> None:
    wrapped = wrap(files=("no_readiness", "go"))
    wrapped.await_serving()
    assert list(wrapped.post())[-1] == "response.completed"


# --- ending


def test_a_signal_lets_the_runs_end_then_the_agent_and_leaves_with_its_code(wrap: Start) -> None:
    wrapped = wrap(files=("code=7",))
    wrapped.await_serving()
    events = wrapped.post()
    assert next(events) == "response.created"
    wrapped.await_note("called")
    wrapped.process.send_signal(signal.SIGTERM)
    wrapped.until(lambda: httpx.post(f"{wrapped.url}/responses", json=BACKGROUND).status_code == 503)
    assert "signal SIGTERM" not in wrapped.log()
    (wrapped.folder / "go").touch()
    assert list(events)[-1] == "response.completed"
    assert wrapped.ended() == 7
    assert wrapped.log()[-1] == "signal SIGTERM"


def test_a_run_that_outlasts_the_grace_is_told_the_end_before_the_agent(wrap: Start) -> None:
    wrapped = wrap("--grace-seconds", "0.1", files=("code=0",))
    wrapped.await_serving()
    events = wrapped.post()
    assert next(events) == "response.created"
    wrapped.process.send_signal(signal.SIGTERM)
    assert list(events)[-1] == "response.failed"
    assert wrapped.ended() == 0


def test_the_second_signal_ends_both_at_once(wrap: Start) -> None:
    wrapped = wrap("--grace-seconds", "600", files=("stubborn",))
    wrapped.await_serving()
    events = wrapped.post()
    assert next(events) == "response.created"
    agent = wrapped.agent_pid()
    wrapped.process.send_signal(signal.SIGTERM)
    wrapped.until(lambda: httpx.post(f"{wrapped.url}/responses", json=BACKGROUND).status_code == 503)
    wrapped.process.send_signal(signal.SIGTERM)
    assert wrapped.ended() == 1
    assert _is_gone(agent)


def test_an_agent_that_does_not_end_is_ended(wrap: Start) -> None:
    wrapped = wrap("--agent-grace-seconds", "0.1", files=("stubborn",))
    wrapped.await_serving()
    wrapped.process.send_signal(signal.SIGINT)
    assert wrapped.ended() == 128 + signal.SIGKILL


def test_other_signals_are_passed_on(wrap: Start) -> None:
    wrapped = wrap()
    wrapped.await_serving()
    for name in ("SIGUSR1", "SIGHUP"):
        wrapped.process.send_signal(getattr(signal, name))
        wrapped.await_note(f"signal {name}")
    assert wrapped.process.poll() is None


def test_when_the_agent_dies_its_runs_get_their_end_and_respool_leaves_with_its_code(wrap: Start) -> None:
    wrapped = wrap()
    wrapped.await_serving()
    events = wrapped.post()
    assert next(events) == "response.created"
    os.kill(wrapped.agent_pid(), signal.SIGKILL)
    assert list(events)[-1] == "response.failed"
    code, errors = wrapped.refused()
    assert code == 128 + signal.SIGKILL
    assert "respool: the agent ended with exit code 137" in errors
    with sqlite3.connect(wrapped.folder / "respool.db") as db:
        assert db.execute("SELECT status FROM response").fetchall() == [("failed",)]
    db.close()


def test_an_agent_that_ends_before_it_is_ready_gives_its_code(wrap: Start) -> None:
    assert wrap(files=("leave=9",)).ended() == 9


def test_the_agent_is_asked_to_end_when_respool_is_killed(wrap: Start) -> None:
    wrapped = wrap()
    wrapped.await_serving()
    agent = wrapped.agent_pid()
    wrapped.process.kill()
    wrapped.ended()
    while not _is_gone(agent):
        time.sleep(0.005)
    assert wrapped.log()[-1] == "signal SIGTERM"


def test_as_the_first_process_of_a_container_it_reaps_what_it_inherits(wrap: Start) -> None:
    alone = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespace can be made here")
    wrapped = wrap(files=("children",), prefix=alone)
    wrapped.await_serving()
    (first,) = Path(f"/proc/{wrapped.process.pid}/task/{wrapped.process.pid}/children").read_text().split()
    children = Path(f"/proc/{first}/task/{first}/children")
    wrapped.until(lambda: len(children.read_text().split()) == 1)
    os.kill(int(first), signal.SIGTERM)
    wrapped.ended()


# --- refusing


def test_what_cannot_be_found_or_executed_is_told_as_a_shell_would(tmp_path: Path) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--store", "memory:")
    for command, code in (("no-such-agent", 127), (str(tmp_path), 126)):
        done = subprocess.run([*RESPOOL, *listen, "--", command], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stderr.startswith(f"respool: cannot start the agent: {command}")


def test_a_port_in_use_is_told_before_the_agent_starts(wrap: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, errors = wrap("--listen", f"127.0.0.1:{taken.getsockname()[1]}").refused()
    assert code == 3
    assert "Address already in use" in errors


def test_one_port_for_both_is_refused(wrap: Start) -> None:
    port = str(free_port())
    code, errors = wrap("--listen", f"127.0.0.1:{port}", "--agent-port", port).refused()
    assert (code, errors) == (
        2,
        f"respool: --agent-port: {port} is where respool listens; give the agent another port\n",
    )


def test_a_store_that_cannot_be_opened_ends_the_agent_too(tmp_path: Path, wrap: Start) -> None:
    lock = Lock.acquire(str(tmp_path / "respool.db.lock"), "http://127.0.0.1:1")
    wrapped = wrap()
    code, errors = wrapped.refused()
    lock.release()
    assert code == 4
    assert "cannot open sqlite:///" in errors
    assert _is_gone(wrapped.agent_pid())


def test_an_agent_that_is_not_ready_in_time_is_ended(wrap: Start) -> None:
    wrapped = wrap("--ready-timeout-seconds", "0.5", files=("not_ready",))
    code, errors = wrapped.refused()
    assert (code, errors) == (5, "respool: the agent was not ready after 0.5 s\n")
    assert _is_gone(wrapped.agent_pid())
