"""How a test sees that an agent has stopped: it looks at its next event whether anybody listens, and logs it."""

import pytest

from tests.agents.launcher import Agent
from tests.serving import until

# The core agent lets go of its generator when it stops, which logs only when the garbage collector comes by.
LOGS_ITS_STOP = pytest.mark.parametrize("agent", ["langgraph", "responses"], indirect=True)


async def stopped(agent: Agent, asked: str, key: str) -> None:
    """Let the agent go on token by token until it logs that it was cancelled; one that completes fails."""
    while "CANCELLED" not in (words := agent.words(asked)):
        assert "COMPLETED" not in words
        agent.release(key)
        await _logged_more(agent, asked, len(words))


async def _logged_more(agent: Agent, asked: str, count: int) -> None:
    await until(lambda: len(agent.words(asked)) > count)
