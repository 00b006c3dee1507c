"""A client that leaves: what becomes of the run, and of the agent's connection."""

import pytest

from tests.agents.launcher import Agent
from tests.e2e import wire
from tests.e2e.caller import MODEL
from tests.e2e.stopping import LOGS_ITS_STOP, stopped
from tests.e2e.valve import Valve
from tests.serving import Served

pytestmark = pytest.mark.agent


@pytest.fixture
def upstream(between: Valve) -> str:
    """A valve, which sees how respool ends its connection."""
    return between.url


async def left_after(served: Served, events: int, **body: object) -> str:
    """The id of a streamed response whose client broke its connection after so many events."""
    async with wire.asking(served.url, "POST", "/responses", {"model": MODEL, "stream": True, **body}) as answer:
        seen = await answer.events(events)
        answer.cut()
    id_: str = wire.events_of(seen)[0]["response"]["id"]
    return id_


async def ended(served: Served, id_: str) -> dict[str, object]:
    """The object once it has ended; that of a foreground response is not there before."""
    status, body = await wire.ask(served.url, "GET", f"/responses/{id_}")
    while status == 404 or body["status"] == "in_progress":
        status, body = await wire.ask(served.url, "GET", f"/responses/{id_}")
    found: dict[str, object] = body
    return found


def id_from(key: str) -> str:
    """A response id that a client chose."""
    return f"caresp_{'0' * 18}{key[-32:]}"


def text_in(response: dict[str, object]) -> str:
    output = response["output"]
    assert isinstance(output, list)
    return "".join(part["text"] for item in output for part in item["content"])


async def test_a_foreground_stream_is_cancelled_when_its_client_leaves(
    agent: Agent, between: Valve, served: Served, key: str
) -> None:
    agent.release(key, 2)
    id_ = await left_after(served, 6, input=f"gate 99 {key}")
    response = await ended(served, id_)
    assert (response["status"], response["error"]) == ("cancelled", None)
    assert text_in(response) == "tok0 tok1 "
    assert await between.ending() == "hung up"


async def test_a_foreground_response_is_cancelled_when_its_client_leaves(
    agent: Agent, between: Valve, served: Served, key: str
) -> None:
    asked, id_ = f"gate 99 {key}", id_from(key)
    agent.release(key, 2)
    body = {"model": MODEL, "input": asked, "response_id": id_}
    async with wire.sending(served.url, "POST", "/responses", body) as unanswered:
        await agent.logged(asked, "TOKEN", times=2)
        unanswered.cut()
    assert (await ended(served, id_))["status"] == "cancelled"
    assert await between.ending() == "hung up"


async def test_a_stream_that_is_not_stored_is_cancelled_when_its_client_leaves(
    agent: Agent, between: Valve, served: Served, key: str
) -> None:
    agent.release(key, 2)
    await left_after(served, 6, input=f"gate 99 {key}", store=False)
    assert await between.ending() == "hung up"


@LOGS_ITS_STOP
async def test_an_agent_whose_client_leaves_stops_at_its_next_event(agent: Agent, served: Served, key: str) -> None:
    asked = f"gate 99 {key}"
    agent.release(key, 2)
    await left_after(served, 6, input=asked)
    await stopped(agent, asked, key)


@pytest.mark.parametrize("read", [False, True])
async def test_a_background_response_goes_on_when_its_client_leaves(
    agent: Agent, served: Served, key: str, read: bool
) -> None:
    """Also when the client has left before the answer came."""
    asked, id_ = f"gate 3 {key}", id_from(key)
    body = {"model": MODEL, "input": asked, "background": True, "response_id": id_}
    async with wire.sending(served.url, "POST", "/responses", body) as answer:
        if read:
            agent.release(key)
            await answer.head()
        await agent.logged(asked, "CALLED")
        answer.cut()
    agent.release_all(key)
    await agent.logged(asked, "COMPLETED")
    response = await ended(served, id_)
    assert (response["status"], text_in(response)) == ("completed", "tok0 tok1 tok2 ")


async def test_a_background_stream_goes_on_when_its_client_leaves(agent: Agent, served: Served, key: str) -> None:
    asked = f"gate 6 {key}"
    agent.release(key, 2)
    id_ = await left_after(served, 6, input=asked, background=True)
    agent.release_all(key)
    await agent.logged(asked, "COMPLETED")
    events = wire.events_of(await wire.replay(served.url, id_))
    assert events[-1]["type"] == "response.completed"
    assert wire.text_of(events) == "tok0 tok1 tok2 tok3 tok4 tok5 "
    assert "CANCELLED" not in agent.words(asked)


@pytest.mark.parametrize("agent", ["core"], indirect=True)
@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("options", [{}, {"background": True}, {"store": False}])
async def test_an_agent_is_read_out_though_its_client_leaves_at_the_terminal_event(
    agent: Agent, between: Valve, served: Served, key: str, options: dict[str, object], torn: bool
) -> None:
    """The agent has work to do behind its terminal event, and respool stays until it is done."""
    asked = f"drain {key}"
    body = {"model": MODEL, "stream": True, "input": asked, **options}
    async with wire.asking(served.url, "POST", "/responses", body) as answer:
        seen = await answer.events(14)
        terminal = await (answer.half_an_event() if torn else answer.events(1))
        assert terminal.startswith(b"event: response.completed\n")
        answer.cut()
    # The answer to this comes after respool has seen the cut.
    status, found = await wire.ask(served.url, "GET", f"/responses/{wire.events_of(seen)[0]['response']['id']}")
    assert status == 404 if "store" in options else found["status"] == "completed"
    assert agent.words(asked)[-1] == "TOKEN"
    agent.release(key)
    assert await between.ending() == "read out"
    assert agent.words(asked)[-1] == "COMPLETED"
