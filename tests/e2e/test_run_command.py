"""`respool run` around a real agent: one process to start, and the stock client in front of both."""

import os
import signal
import socket
import sys
from pathlib import Path

import openai
import pytest

from examples.environments import NOT_FOR_AGENTS, REPOSITORY, Unavailable, free_port, python_with, start
from tests.agents.launcher import REQUIREMENTS, Name

pytestmark = pytest.mark.agent


@pytest.mark.parametrize("name", ["core", "responses"])
def test_a_wrapped_agent_is_resumable_and_leaves_in_order(name: Name, tmp_path: Path) -> None:
    try:
        python = python_with(REQUIREMENTS[name], name)
    except Unavailable as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no environment for the {name} agent, and none can be made now: {missing}")
    port, agent_port = free_port(), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_FOR_AGENTS)}
    told = {"AGENT_APP_INSIGHTS_ENABLED": "false", "RESPOOL_TEST_CONTROL": str(tmp_path)}
    server = start(
        [
            *(sys.executable, "-m", "respool.cli", "run", "--listen", f"127.0.0.1:{port}"),
            *("--agent-port", str(agent_port), "--store", f"sqlite:///{tmp_path / 'respool.db'}"),
            *("--", str(python), "-m", f"tests.agents.{name}_agent"),
        ],
        port,
        ready="/_respool/ready",
        log=tmp_path / "output",
        environment={**kept, **told, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        client = openai.OpenAI(base_url=server.url, api_key="unused", max_retries=0)
        with client.responses.create(model="m", input="hello", background=True, stream=True) as stream:
            first = next(stream)
        assert first.type == "response.created"
        rest = list(client.responses.retrieve(first.response.id, stream=True, starting_after=0))
        assert [event.sequence_number for event in rest] == list(range(1, len(rest) + 1))
        assert rest[-1].type == "response.completed"
        client.close()
        server.process.send_signal(signal.SIGTERM)
        # The agents end in order on SIGTERM or by it, whichever their server chooses.
        assert server.process.wait(60) in (0, 128 + signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", agent_port))
    finally:
        server.kill()
