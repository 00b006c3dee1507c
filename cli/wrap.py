"""`respool run -- COMMAND`: start the agent as a child, and serve in front of it.

This is how a platform that runs one container for each agent gets a sidecar: the agent's image with respool in it.
"""

import asyncio
import inspect
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx
import typer

from respool.cli.child import Child
from respool.cli.options import WRONG_OPTIONS, give_signature, leave, settings_of, settings_parameters
from respool.cli.serve import bound, loop_factory, serve_until, stop_on_signals
from respool.proxy import telemetry
from respool.proxy.settings import Settings, host_and_port

_NOT_READY = 5
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127

# What the agents' servers read their port from; the platform sets them to where the container must listen.
_PORT_VARIABLES = ("PORT", "DEFAULT_AD_PORT")
_LISTEN_PORT = "8088"
_PASSED_ON = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_LOOK_SECONDS = 0.05
# Agents with a blocking call answer late, and are alive.
_ANSWER_SECONDS = 5.0

_HELP = """Start an agent and serve in front of it; ends with it, and with its exit code.

respool run -- python main.py

The agent gets its port in PORT and DEFAULT_AD_PORT; respool serves where these say, else on port 8088, once GET
/readiness of the agent answers, or, where it has no such route, once it accepts a connection. SIGTERM and SIGINT let
the runs end first (--grace-seconds), then the agent. Every option is also a variable RESPOOL_..."""

_OWN: tuple[tuple[str, Any, Any, str], ...] = (
    ("agent_port", int, 8089, "Port for the agent, on the loopback address."),
    ("port_env", list[str], [], "One more variable that tells the agent its port; may be repeated."),
    ("ready_timeout_seconds", float, 300.0, "How long the agent may take to become ready."),
    ("agent_grace_seconds", float, 10.0, "How long the agent may take to end after SIGTERM."),
)


def add_run(app: typer.Typer) -> None:
    """Register the command; its options are the fields of Settings and those of _OWN."""

    def run(
        command: list[str],
        agent_port: int,
        port_env: list[str],
        ready_timeout_seconds: float,
        agent_grace_seconds: float,
        **options: Any,
    ) -> None:
        settings = _settings(options, agent_port)
        child_environment = {**os.environ, **dict.fromkeys((*_PORT_VARIABLES, *port_env), str(agent_port))}
        _run(settings, command, child_environment, ready_timeout_seconds, agent_grace_seconds)

    defaults = {"upstream": "http://127.0.0.1:AGENT_PORT", "listen": "0.0.0.0:PORT"}
    give_signature(run, [_command(), *map(_own, _OWN), *settings_parameters(defaults)])
    app.command("run", help=_HELP, context_settings={"allow_interspersed_args": False})(run)


def _command() -> inspect.Parameter:
    argument = typer.Argument(..., metavar="-- COMMAND...", help="What starts the agent.")
    return inspect.Parameter("command", inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=list[str])


def _own(option: tuple[str, Any, Any, str]) -> inspect.Parameter:
    name, kind, default, words = option
    variable = f"RESPOOL_{name.upper()}"
    shown = f" [default: {default}]" if default != [] else ""
    value = typer.Option(
        default,
        f"--{name.replace('_', '-')}",
        envvar=variable,
        help=f"{words} [env: {variable}]{shown}",
        show_default=False,
        show_envvar=False,
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind)


def _settings(options: dict[str, Any], agent_port: int) -> Settings:
    given = dict(options)
    if given["upstream"] is None and "RESPOOL_UPSTREAM" not in os.environ:
        given["upstream"] = f"http://127.0.0.1:{agent_port}"
    if given["listen"] is None and "RESPOOL_LISTEN" not in os.environ:
        port = next((os.environ[name] for name in _PORT_VARIABLES if os.environ.get(name)), _LISTEN_PORT)
        given["listen"] = f"0.0.0.0:{port}"
    settings = settings_of(given)
    if host_and_port(settings.listen)[1] == agent_port:
        leave(WRONG_OPTIONS, f"--agent-port: {agent_port} is where respool listens; give the agent another port")
    return settings


def _run(
    settings: Settings,
    command: Sequence[str],
    environment: Mapping[str, str],
    ready_timeout_seconds: float,
    agent_grace_seconds: float,
) -> None:
    telemetry.set_up(settings.log_level)
    listeners = bound(settings)
    child = _start(command, environment)

    async def in_front() -> None:
        child.watch()
        try:
            await _serve_in_front(child, settings, listeners, ready_timeout_seconds)
        finally:
            await child.stop(agent_grace_seconds)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(in_front())
    if child.code:
        leave(child.code, f"the agent ended with exit code {child.code}")


def _start(command: Sequence[str], environment: Mapping[str, str]) -> Child:
    try:
        return Child(command, environment)
    except FileNotFoundError:
        leave(_NOT_FOUND, f"cannot start the agent: {command[0]} is not found")
    except OSError as error:
        leave(_NOT_EXECUTABLE, f"cannot start the agent: {command[0]}: {error.strerror or error}")


async def _serve_in_front(child: Child, settings: Settings, listeners: list[socket.socket], seconds: float) -> None:
    stop = stop_on_signals(child.kill)
    for number in _PASSED_ON:
        asyncio.get_running_loop().add_signal_handler(number, child.send, number)
    ending = asyncio.create_task(_set_when_ended(stop, child))
    try:
        # Clients that come before this wait in the sockets' backlogs.
        if await _is_ready(settings.upstream, stop, seconds):
            await serve_until(stop, settings, listeners)
        elif not stop.is_set():
            leave(_NOT_READY, f"the agent was not ready after {seconds:g} s")
    finally:
        ending.cancel()


async def _set_when_ended(stop: asyncio.Event, child: Child) -> None:
    await child.ended.wait()
    stop.set()


async def _is_ready(url: str, stop: asyncio.Event, seconds: float) -> bool:
    """Wait until the agent is ready; False when the time is over or `stop` was set before."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), httpx.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS) as client:
            while not stop.is_set():
                if await _answers(client, httpx.URL(url).join("/readiness")):
                    return True
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
    return False


async def _answers(client: httpx.AsyncClient, url: httpx.URL) -> bool:
    """Whether the agent says that it is ready, or cannot say so and accepts connections."""
    try:
        answer = await client.get(url)
    except (httpx.RemoteProtocolError, httpx.ReadError):
        return True  # something listens there that does not speak of readiness
    except httpx.TransportError:
        return False
    return not answer.is_server_error or answer.status_code == httpx.codes.NOT_IMPLEMENTED
