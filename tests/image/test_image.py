"""The image as an operator runs it, and /opt/respool as it is copied into the image of an agent."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.environments import Server, free_port, start
from tests.image.conftest import AGENT
from tests.image.engine import USER, Image, first_process_in

pytestmark = pytest.mark.image


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Server]:
    """An agent outside that answers at once."""
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "go").touch()
    port = free_port()
    server = start(
        ["python3", str(AGENT), str(folder)],
        port,
        ready="/readiness",
        log=folder / "output",
        environment={**os.environ, "PORT": str(port)},
    )
    yield server
    server.kill()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The volume, as an engine prepares it."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o750)
    os.chown(folder, USER, USER)
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o005 != 0o005:
            above.chmod(above.stat().st_mode | 0o055)
    return folder


def served(process: subprocess.Popen[str], url: str, path: str = "/_respool/ready") -> httpx.Response:
    """The answer to GET, once there is one."""
    with httpx.Client(trust_env=False, verify=False) as client:
        while True:
            assert process.poll() is None, process.communicate()[0]
            try:
                return client.get(url + path)
            except (httpx.ConnectError, httpx.ReadError):  # not there yet, or gone: then it has said why
                time.sleep(0.02)


def test_the_image_names_no_root_and_no_shell(image: Image) -> None:
    assert image.config["User"] == f"{USER}:{USER}"
    assert image.command == ["/opt/respool/bin/respool", "serve"]
    assert image.config["StopSignal"] == "SIGTERM"
    assert "/data" in image.config["Volumes"]
    assert "8088/tcp" in image.config["ExposedPorts"]
    labels = {name.removeprefix("org.opencontainers.image.") for name in image.config["Labels"]}
    assert {"title", "description", "licenses", "version", "revision"} <= labels


def test_it_serves_on_a_read_only_root_and_ends_in_order(image: Image, agent: Server, data: Path) -> None:
    port = free_port()
    told = {"RESPOOL_UPSTREAM": agent.url, "RESPOOL_LISTEN": f"127.0.0.1:{port}"}
    url = f"http://127.0.0.1:{port}"
    with image.start(image.command, data, **told) as process:
        assert served(process, url).status_code == 200
        respool = first_process_in(process)
        assert f"\nUid:\t{USER}\t" in Path(f"/proc/{respool}/status").read_text()
        with httpx.stream(
            "POST", f"{url}/responses", json={"input": "x", "background": True, "stream": True}
        ) as answer:
            assert "event: response.completed" in answer.read().decode()
        assert image.run(image.health_command, data, **told) == (0, "")
        os.kill(respool, signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert {path.name for path in data.iterdir()} >= {"respool.db"}
    assert all(path.stat().st_uid == USER for path in data.iterdir())


def test_its_health_command_tells_a_server_that_is_not_there(image: Image, data: Path) -> None:
    code, _ = image.run(image.health_command, data, RESPOOL_LISTEN=f"127.0.0.1:{free_port()}")
    assert code != 0


def test_it_carries_a_sqlite_without_the_fault_of_older_ones(image: Image) -> None:
    code, output = image.run(["/opt/respool/bin/python", "-c", "import sqlite3; print(sqlite3.sqlite_version)"])
    assert code == 0
    assert tuple(map(int, output.split("."))) >= (3, 51, 3)


def test_the_copy_needs_no_python_and_no_certain_folder(bare: Image, agent: Server, data: Path) -> None:
    assert list(bare.root.rglob("python*")) == [
        path for path in bare.root.rglob("python*") if "elsewhere" in path.parts
    ]
    port = free_port()
    hostile = dict.fromkeys(("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"), "/nowhere")
    command = ["/opt/elsewhere/bin/respool", "serve", "--upstream", agent.url, "--listen", f"127.0.0.1:{port}"]
    with bare.start([*command, "--store", "sqlite:////mnt/respool.db"], data, **hostile) as process:
        assert served(process, f"http://127.0.0.1:{port}").status_code == 200
        os.kill(first_process_in(process), signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 0, output


def test_a_wrapped_command_inherits_nothing_of_it(bare: Image, data: Path) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--agent-port", str(free_port()), "--store", "memory:")
    told = ["/opt/elsewhere/bin/respool", "run", *listen, "--", "/bin/sh", "-c", "/usr/bin/env; exit 7"]
    code, output = bare.run(told, data, LD_LIBRARY_PATH="/its/own")
    assert code == 7
    variables = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    assert {name for name in variables if name.startswith(("LD_", "PYTHON"))} == {"LD_LIBRARY_PATH"}
    assert variables["LD_LIBRARY_PATH"] == "/its/own"


def test_a_wrapped_image_of_an_agent_serves_where_the_platform_expects_the_agent(wrapped: Image, data: Path) -> None:
    (data / "go").touch()
    (data / "code").write_text("0")
    port, agent_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    told = {"RESPOOL_LISTEN": f"127.0.0.1:{port}", "RESPOOL_AGENT_PORT": str(agent_port)}
    command = [*wrapped.command, "/mnt"]
    assert wrapped.command == ["/opt/respool/bin/respool", "run", "--", "python", "main.py"]
    with wrapped.start(command, data, **told, RESPOOL_STORE="sqlite:////mnt/respool.db") as process:
        assert served(process, url, "/readiness").status_code == 200
        with httpx.stream(
            "POST", f"{url}/responses", json={"input": "x", "background": True, "stream": True}
        ) as answer:
            assert "event: response.completed" in answer.read().decode()
        os.kill(first_process_in(process), signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert (data / "log").read_text().splitlines()[-1] == "signal SIGTERM"
