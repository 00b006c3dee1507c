"""Processes that die or are told to end in mid-stream: every response reaches one end, and nothing seen is lost."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import environments
from tests.agents.launcher import Agent, Name
from tests.e2e import wire
from tests.e2e.caller import MODEL
from tests.serving import start_respool

pytestmark = pytest.mark.agent

Start = Callable[..., environments.Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts respool as a process, on the log of this test, and ends what is left of it."""
    started: list[environments.Server] = []

    def start_one(upstream: str, *options: str, port: int | None = None) -> environments.Server:
        started.append(start_respool(upstream, tmp_path, *options, port=port))
        return started[-1]

    yield start_one
    for server in started:
        server.kill()


def background(text: str, *, stream: bool = True) -> dict[str, Any]:
    return {"model": MODEL, "input": text, "background": True, "stream": stream}


def id_in(received: bytes) -> str:
    id_: str = wire.events_of(received)[0]["response"]["id"]
    return id_


def text_in(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item["content"])


@pytest.mark.parametrize("agent", ["core", "langgraph"], indirect=True)
async def test_after_a_kill_in_mid_stream_a_response_has_failed_with_all_that_was_seen(
    agent: Agent, start: Start, key: str
) -> None:
    asked = f"gate 6 {key}"
    agent.release(key, 3)
    first = start(agent.url)
    async with wire.asking(first.url, "POST", "/responses", background(asked)) as answer:
        seen = await answer.events(7)
        first.kill()
        with pytest.raises(wire.Torn):
            await answer.rest()
    id_ = id_in(seen)
    second = start(agent.url, port=int(first.url.rpartition(":")[2]))
    assert second.url == first.url
    whole = await wire.replay(second.url, id_)
    assert whole.startswith(seen)
    [end] = wire.events_of(whole[len(seen) :])
    assert (end["type"], end["sequence_number"]) == ("response.failed", 7)
    status, response = await wire.ask(second.url, "GET", f"/responses/{id_}")
    assert (status, response) == (200, end["response"])
    assert (response["status"], response["error"]["code"]) == ("failed", "owner_lost")
    assert text_in(response) == "tok0 tok1 tok2 "
    assert await wire.replay(second.url, id_, after=4) == wire.behind(whole, 4)
    assert len(agent.runs(asked)) == 1


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_after_a_kill_nothing_is_left_in_progress(agent: Agent, start: Start, key: str) -> None:
    asked = f"gate 6 {key}"
    agent.release(key, 2)
    first = start(agent.url)
    _, polled = await wire.ask(first.url, "POST", "/responses", background(asked, stream=False))
    async with wire.asking(first.url, "POST", "/responses", {"model": MODEL, "input": asked, "stream": True}) as answer:
        foreground = id_in(await answer.events(5))
        first.kill()
    second = start(agent.url)
    for id_ in (polled["id"], foreground):
        _, response = await wire.ask(second.url, "GET", f"/responses/{id_}")
        assert (response["status"], response["error"]["code"]) == ("failed", "owner_lost")
    assert len(agent.runs(asked)) == 2


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_what_had_ended_before_a_kill_is_as_it_was(agent: Agent, start: Start) -> None:
    first = start(agent.url)
    async with wire.asking(first.url, "POST", "/responses", background("burst 6")) as answer:
        whole = await answer.rest()
        first.kill()
    second = start(agent.url)
    assert await wire.replay(second.url, id_in(whole)) == whole


@pytest.mark.parametrize("name", ["core", "langgraph"])
async def test_a_response_fails_with_what_was_said_when_its_agent_dies(
    start_agent: Callable[[Name], Agent], start: Start, key: str, name: Name
) -> None:
    agent = start_agent(name)
    respool = start(agent.url)
    agent.release(key, 2)
    async with wire.asking(respool.url, "POST", "/responses", background(f"gate 6 {key}")) as answer:
        seen = await answer.events(6)
        agent.kill()
        seen += await answer.rest()
    events = wire.events_of(seen)
    assert [event["sequence_number"] for event in events] == list(range(7))
    response = events[-1]["response"]
    assert (events[-1]["type"], response["status"]) == ("response.failed", "failed")
    assert response["error"]["code"] == "upstream_disconnected"
    assert text_in(response) == "tok0 tok1 "
    assert await wire.ask(respool.url, "GET", f"/responses/{response['id']}") == (200, response)
    assert await wire.replay(respool.url, response["id"]) == seen


async def drained(respool: environments.Server) -> None:
    """Tell respool to end, and return once it has heard."""
    respool.process.send_signal(signal.SIGTERM)
    while (await wire.ask(respool.url, "GET", "/_respool/ready"))[0] != 503:
        pass


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_a_run_may_end_while_respool_is_ending(agent: Agent, start: Start, key: str) -> None:
    respool = start(agent.url, "--grace-seconds", "60")
    agent.release(key, 2)
    asked = f"gate 6 {key}"
    async with wire.asking(respool.url, "POST", "/responses", background(asked)) as answer:
        seen = await answer.events(6)
        id_ = id_in(seen)
        await drained(respool)
        status, refused = await wire.ask(respool.url, "POST", "/responses", background("burst 6"))
        assert (status, refused["error"]["code"]) == (503, "service_unavailable")
        status, polled = await wire.ask(respool.url, "GET", f"/responses/{id_}")
        assert (status, polled["status"], text_in(polled)) == (200, "in_progress", "tok0 tok1 ")
        target = f"/responses/{id_}?stream=true&starting_after=3"
        async with wire.asking(respool.url, "GET", target) as follower:
            assert await follower.events(2) in seen
            agent.release_all(key)
            rest = await follower.rest()
        seen += await answer.rest()
    assert await asyncio.to_thread(respool.process.wait) == 0
    assert seen.endswith(rest)
    assert wire.events_of(rest)[-1]["type"] == "response.completed"
    assert agent.words(asked)[-1] == "COMPLETED"
    again = start(agent.url)
    assert await wire.replay(again.url, id_) == seen


@pytest.mark.parametrize("agent", ["core"], indirect=True)
async def test_a_run_that_outlasts_the_grace_fails_and_its_followers_are_told(
    agent: Agent, start: Start, key: str
) -> None:
    respool = start(agent.url, "--grace-seconds", "0")
    agent.release(key, 2)
    async with wire.asking(respool.url, "POST", "/responses", background(f"gate 6 {key}")) as answer:
        seen = await answer.events(6)
        respool.process.send_signal(signal.SIGTERM)
        seen += await answer.rest()
    assert await asyncio.to_thread(respool.process.wait) == 0
    end = wire.events_of(seen)[-1]
    assert (end["type"], end["sequence_number"]) == ("response.failed", 6)
    assert end["response"]["error"]["code"] == "server_shutdown"
    assert text_in(end["response"]) == "tok0 tok1 "
    again = start(agent.url)
    assert await wire.ask(again.url, "GET", f"/responses/{id_in(seen)}") == (200, end["response"])
    assert await wire.replay(again.url, id_in(seen)) == seen


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("agent", ["core"], indirect=True)
@pytest.mark.parametrize("store", [False, True])
async def test_of_a_response_that_is_not_stored_nothing_is_on_disk(
    agent: Agent, start: Start, tmp_path: Path, key: str, store: bool
) -> None:
    """Of one that has ended and of one in mid-stream; the same search finds those that are stored."""
    respool = start(agent.url)
    kept = {"model": MODEL, "metadata": {"mark": key}, "store": store}
    status, ended = await wire.ask(respool.url, "POST", "/responses", {**kept, "input": f"burst 3 {key}"})
    assert (status, text_in(ended)) == (200, "tok0 tok1 tok2 ")
    agent.release(key, 3)
    asked = {**kept, "input": f"gate 6 {key}", "stream": True}
    async with wire.asking(respool.url, "POST", "/responses", asked) as answer:
        seen = await answer.events(7)
        respool.kill()
    assert wire.text_of(wire.events_of(seen)) == "tok0 tok1 tok2 "
    files = contents(tmp_path)
    assert "respool.db" in files
    assert key.encode() not in files.pop("respool.log")
    for mark in (key, "tok0", "output_text", ended["id"], id_in(seen)):
        assert any(mark.encode() in data for data in files.values()) == store, mark
