"""Fixtures that more than one test file uses."""

from collections.abc import Callable, Iterator

import pytest

from tests.agents.launcher import Agent, Name, launch

REAL_AGENTS = frozenset({"core_agent", "langgraph_agent", "responses_agent", "start_agent"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs a real agent is marked so, whether or not its author thought of it."""
    for item in items:
        if REAL_AGENTS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.agent)


@pytest.fixture(scope="session")
def core_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """The 1.0.0b16 core agent, shared: let a test that ends its agent take `start_agent`."""
    yield from _shared("core", tmp_path_factory)


@pytest.fixture(scope="session")
def langgraph_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """The 1.0.0b16 LangGraph agent, shared."""
    yield from _shared("langgraph", tmp_path_factory)


@pytest.fixture(scope="session")
def responses_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """The 2.4.0b1 agent, which has background and resume of its own, shared."""
    yield from _shared("responses", tmp_path_factory)


@pytest.fixture
def start_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Name], Agent]]:
    """Starts agents that belong to one test, and ends them after it."""
    started: list[Agent] = []

    def start(name: Name) -> Agent:
        started.append(launch(name, tmp_path_factory.mktemp(name)))
        return started[-1]

    yield start
    for agent in started:
        agent.kill()


def _shared(name: Name, directories: pytest.TempPathFactory) -> Iterator[Agent]:
    agent = launch(name, directories.mktemp(name))
    yield agent
    agent.kill()
