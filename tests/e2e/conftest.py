"""What the end-to-end tests stand on: an agent, respool in front of it over SQLite, and a stock client."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from respool.store.open import open_store
from tests.agents.launcher import Agent
from tests.e2e.caller import Caller
from tests.e2e.valve import Valve, valve
from tests.serving import Served, serving


@pytest.fixture(params=["core", "langgraph", "responses"])
def agent(request: pytest.FixtureRequest) -> Agent:
    """Each of the real agents; a test that is about one of them names it by indirect parametrization."""
    chosen: Agent = request.getfixturevalue(f"{request.param}_agent")
    return chosen


@pytest.fixture
async def between(agent: Agent) -> AsyncIterator[Valve]:
    """An open valve in front of the agent."""
    async with valve(agent.url) as made:
        made.open()
        yield made


@pytest.fixture
def upstream(agent: Agent) -> str:
    """What respool takes for the agent's address."""
    return agent.url


@pytest.fixture
async def served(upstream: str, tmp_path: Path) -> AsyncIterator[Served]:
    """respool in front of the agent, with its log in a file."""
    async with serving(upstream, store=await open_store(f"sqlite:///{tmp_path / 'respool.db'}")) as here:
        yield here


@pytest.fixture(params=["sync", "async"])
async def caller(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[Caller]:
    """The stock client, of both kinds."""
    made = Caller(request.param, served.url)
    yield made
    await made.close()


@pytest.fixture
def key() -> str:
    """The name of a gate that no other test opens."""
    return "key" + uuid.uuid4().hex
