"""`respool serve` as an operator meets it: what it says, what it refuses, how it ends."""

import asyncio
import importlib.metadata
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from examples.environments import Server, free_port, start
from respool.cli.main import app
from respool.proxy.settings import Settings
from respool.store.open import open_store
from tests.proxy.agent import Held, answer, answering, saying, scripted
from tests.proxy.client import Stream, error_of, events_of, text_of, whole
from tests.proxy.scene import BACKGROUND, id_from
from tests.serving import start_respool

RESPOOL = (sys.executable, "-m", "respool.cli")
NOBODY = "http://127.0.0.1:1"
SERVE = ("--upstream", NOBODY, "--listen", "127.0.0.1:0")


def said(*arguments: str, columns: int = 80, **variables: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that comes no further than its options."""
    ours = {f"RESPOOL_{name.upper()}": None for name in Settings.model_fields}
    environment = {**ours, "COLUMNS": str(columns), **variables}
    result = CliRunner().invoke(app, list(arguments), env=environment)
    return result.exit_code, result.stdout, result.stderr


def refused(*options: str) -> tuple[int, str]:
    """Exit code and errors of a server that does not start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RESPOOL_")}
    done = subprocess.run([*RESPOOL, "serve", *options], capture_output=True, text=True, env=kept, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def client_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False, verify=False)


# --- what it says


@pytest.mark.parametrize("columns", [80, 200])
def test_the_help_names_every_option_and_its_variable(columns: int) -> None:
    code, output, _ = said("serve", "--help", columns=columns)
    assert code == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in output
        assert f"RESPOOL_{name.upper()}" in output


def test_without_a_command_there_is_help() -> None:
    _, output, errors = said()
    assert "serve" in output + errors


def test_the_version_is_told() -> None:
    code, output, _ = said("--version")
    assert (code, output.strip()) == (0, importlib.metadata.version("respool"))


# --- what it refuses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--upstream (RESPOOL_UPSTREAM): is required"),
        (("--upstream", "agent:8088"), "--upstream (RESPOOL_UPSTREAM): 'agent:8088' is not an http:// or https:// URL"),
        (("--upstream", NOBODY, "--listen", "8080"), "--listen (RESPOOL_LISTEN): '8080' is not HOST:PORT"),
        (("--upstream", NOBODY, "--keep-alive-seconds", "x"), "--keep-alive-seconds (RESPOOL_KEEP_ALIVE_SECONDS): "),
        (("--upstream", NOBODY, "--replay", "all"), "--replay (RESPOOL_REPLAY): "),
    ],
)
def test_wrong_options_are_told_by_name(options: tuple[str, ...], words: str) -> None:
    code, _, errors = said("serve", *options)
    assert code == 2
    assert f"respool: {words}" in errors


def test_every_wrong_option_is_told_at_once() -> None:
    code, _, errors = said("serve", "--listen", "x", "--drain-seconds", "y")
    assert code == 2
    assert [line.split(" ")[1] for line in errors.splitlines()] == ["--upstream", "--listen", "--drain-seconds"]


def test_a_wrong_variable_is_told_by_name() -> None:
    code, _, errors = said("serve", "--upstream", NOBODY, RESPOOL_DRAIN_SECONDS="soon")
    assert code == 2
    assert "--drain-seconds (RESPOOL_DRAIN_SECONDS): " in errors


def test_keys_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    code, _, errors = said("serve", *SERVE, "--api-key-file", str(tmp_path / "none"))
    assert code == 2
    assert "respool: --api-key-file (RESPOOL_API_KEY_FILE): cannot read" in errors


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        store = f"sqlite:///{tmp_path / 'respool.db'}"
        code, errors = refused("--upstream", NOBODY, "--listen", address, "--store", store)
    assert code == 3
    assert f"respool: cannot listen on {address}: Address already in use" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_does_not_exist_is_refused_in_words() -> None:
    code, errors = refused("--upstream", NOBODY, "--listen", "256.0.0.1:0", "--store", "memory:")
    assert code == 3
    assert "respool: cannot listen on 256.0.0.1:0: " in errors
    assert "Unknown error" not in errors


@pytest.mark.parametrize("store", ["respool.db", "sqlite:////no/such/directory/r.db"])
def test_a_store_that_cannot_be_opened_is_refused(store: str) -> None:
    code, errors = refused(*SERVE, "--store", store)
    assert code == 4
    assert f"respool: cannot open {store}: " in errors


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "respool.db"
    await (await open_store(f"sqlite:///{database}")).close()
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 1000000")
    connection.close()
    code, errors = refused(*SERVE, "--store", f"sqlite:///{database}")
    assert code == 4
    assert "cannot open" in errors
    assert "newer" in errors


async def test_a_database_that_is_served_is_refused_and_the_server_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'respool.db'}"
    store = await open_store(url, served_at="http://elsewhere:8080")
    code, errors = refused(*SERVE, "--store", url)
    assert code == 4
    assert f"process {os.getpid()} at http://elsewhere:8080" in errors
    await store.close()


# --- how it serves


async def test_it_greets_once_with_where_it_is_and_what_it_stands_before(tmp_path: Path) -> None:
    server = start_respool(NOBODY, tmp_path, "--synchronous", "full")
    assert server.stop() == 0
    line = next(line for line in server.log.read_text().splitlines() if line.startswith("respool "))
    assert f"on {server.url} in front of {NOBODY}" in line
    assert f"SQLite {sqlite3.sqlite_version}, synchronous=full" in line
    assert str(tmp_path / "respool.db") in line
    assert "orphan" not in line


async def test_variables_set_the_options(tmp_path: Path) -> None:
    port = free_port()
    async with scripted(saying(*answer("x"))) as agent:
        environment = os.environ | {
            "RESPOOL_UPSTREAM": agent.url,
            "RESPOOL_LISTEN": f"127.0.0.1:{port}",
            "RESPOOL_STORE": "memory:",
            "RESPOOL_DEFAULT_MODEL": "from-the-environment",
            "RESPOOL_PREFIXES": "/mine",
        }
        log = tmp_path / "log"
        server = start([*RESPOOL, "serve"], port, ready="/_respool/health", log=log, environment=environment)
        try:
            async with client_of(server) as client:
                response = await client.post("/mine/responses", json={})
                assert response.json()["model"] == "from-the-environment"
        finally:
            await asyncio.to_thread(server.stop)


async def test_the_administrators_port_shows_everybodys_responses(tmp_path: Path) -> None:
    port = free_port()
    async with scripted(saying(*answer("x"))) as agent:
        server = start_respool(agent.url, tmp_path, "--admin-listen", f"127.0.0.1:{port}")
        try:
            async with client_of(server) as client:
                response = await client.post("/responses", json={}, headers={"x-agent-user-id": "ann"})
                everybody = await client.get(f"http://127.0.0.1:{port}/_respool/responses")
                assert [entry["id"] for entry in everybody.json()["data"]] == [response.json()["id"]]
                assert (await client.get("/_respool/responses?conversation=c")).json()["data"] == []
                assert (await client.get(f"http://127.0.0.1:{port}/readiness")).status_code == 404
        finally:
            await asyncio.to_thread(server.stop)


async def test_the_log_tells_of_runs_and_of_nobodys_words(tmp_path: Path) -> None:
    async with scripted(saying(*answer("a secret answer"))) as agent:
        server = start_respool(agent.url, tmp_path)
        async with client_of(server) as client:
            headers = {"authorization": "Bearer secret token"}
            response = await client.post("/responses", json={"input": "a secret question"}, headers=headers)
        assert await asyncio.to_thread(server.stop) == 0
    log = server.log.read_text()
    assert f"run_started response_id={response.json()['id']}" in log
    assert f"run_ended response_id={response.json()['id']} status=completed" in log
    assert "secret" not in log


@pytest.mark.parametrize(
    ("soft", "hard", "words"),
    [
        (200, 300, "the limit of 300 open files is enough for 225 clients at a time; "),
        (100, 5000, "5000 open files is enough for 3750 clients at a time, and not the 4000 of --max-connections; "),
        (100, 10_000, None),
    ],
)
def test_it_opens_as_many_files_as_it_may_and_says_when_these_are_few(
    tmp_path: Path, soft: int, hard: int, words: str | None
) -> None:
    port = free_port()
    serve = [*RESPOOL, "serve", "--upstream", NOBODY, "--listen", f"127.0.0.1:{port}", "--store", "memory:"]
    if hard > 1000:
        serve += ["--max-connections", "4000"]
    limited = ["sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh", *serve]
    server = start(limited, port, ready="/_respool/health", log=tmp_path / "log")
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    assert server.stop() == 0
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    assert line.split()[3:5] == [str(hard)] * 2
    log = server.log.read_text()
    assert (words in log) if words else ("open files" not in log)


# --- how it ends


async def gone(server: Server) -> int:
    """The exit code once the process has ended."""
    return await asyncio.to_thread(server.process.wait)


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own here")
def test_one_that_may_not_raise_its_priority_starts_whatever_it_was_given(tmp_path: Path) -> None:
    port = free_port()
    unprivileged = ("setpriv", "--bounding-set=-sys_nice") if os.geteuid() == 0 else ()
    command = [*unprivileged, "nice", "-n", "15", *RESPOOL, "serve", "--upstream", NOBODY]
    command += ["--listen", f"127.0.0.1:{port}", "--store", f"sqlite:///{tmp_path / 'respool.db'}"]
    server = start(command, port, ready="/_respool/ready", log=tmp_path / "log")
    assert server.stop() == 0


async def test_an_interrupt_ends_it_in_order_too(tmp_path: Path) -> None:
    server = start_respool(NOBODY, tmp_path)
    server.process.send_signal(signal.SIGINT)
    assert await gone(server) == 0
    server.stop()


async def test_a_signal_drains_it_and_its_followers_are_told_the_end(tmp_path: Path) -> None:
    async with scripted(Held(), answering("500 Internal Server Error", b"")) as agent:
        server = start_respool(agent.url, tmp_path, "--grace-seconds", "0.2")
        async with client_of(server) as client:
            async with client.stream("POST", "/responses", json=BACKGROUND) as response:
                stream = Stream(response)
                response_id = await id_from(stream)
                await stream.until("response.output_text.delta")
                server.process.send_signal(signal.SIGTERM)
                while (refused := await client.post("/responses", json={})).status_code != 503:
                    assert refused.status_code == 500
                assert error_of(refused)["message"] == "Server is shutting down."
                assert (await client.get(f"/responses/{response_id}")).json()["status"] == "in_progress"
                last = (await stream.rest())[-1]
            assert last.name == "response.failed"
            assert last.data["response"]["error"]["code"] == "server_shutdown"
            assert await gone(server) == 0
        server.stop()
        again = start_respool(agent.url, tmp_path)
        try:
            async with client_of(again) as client:
                assert (await client.get(f"/responses/{response_id}")).json() == last.data["response"]
        finally:
            await asyncio.to_thread(again.stop)


async def test_a_run_that_ends_in_the_grace_ends_well(tmp_path: Path) -> None:
    held = Held()
    async with scripted(held) as agent:
        server = start_respool(agent.url, tmp_path, "--grace-seconds", "600")
        async with client_of(server) as client, client.stream("POST", "/responses", json=BACKGROUND) as response:
            stream = Stream(response)
            await stream.until("response.output_text.delta")
            server.process.send_signal(signal.SIGTERM)
            while (await client.get("/_respool/ready")).status_code == 200:
                pass
            held.going_on.set()
            assert (await stream.rest())[-1].name == "response.completed"
        assert await gone(server) == 0
        server.stop()


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with scripted(Held()) as agent:
        server = start_respool(agent.url, tmp_path, "--grace-seconds", "600")
        async with client_of(server) as client, client.stream("POST", "/responses", json=BACKGROUND) as response:
            await Stream(response).until("response.output_text.delta")
            server.process.send_signal(signal.SIGTERM)
            while (await client.get("/_respool/ready")).status_code == 200:
                pass
            server.process.send_signal(signal.SIGTERM)
            assert await gone(server) == 1
        server.stop()


async def test_what_a_crash_left_behind_is_ended_at_the_next_start_and_the_agent_is_not_asked_again(
    tmp_path: Path,
) -> None:
    async with scripted(Held()) as agent:
        server = start_respool(agent.url, tmp_path)
        async with client_of(server) as client, client.stream("POST", "/responses", json=BACKGROUND) as response:
            stream = Stream(response)
            seen = await stream.until("response.output_text.delta")
            server.kill()
        again = start_respool(agent.url, tmp_path)
        try:
            async with client_of(again) as client:
                path = f"/responses/{seen[0].data['response']['id']}"
                events = events_of((await client.get(path, params={"stream": "true"})).content)
                assert events[:-1] == seen
                final = whole(events)
                assert (final["status"], final["error"]["code"], text_of(final)) == ("failed", "owner_lost", "Hel")
                assert (await client.get(path)).json() == final
            assert "1 orphaned response" in again.log.read_text()
            assert len(agent.asked) == 1
        finally:
            await asyncio.to_thread(again.stop)
