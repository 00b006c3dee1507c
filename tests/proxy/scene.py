"""A scripted agent, respool before it in this process, and a client before both."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from respool.proxy.server import Server, bind
from respool.store.base import Store
from tests.proxy.agent import Agent, Script, scripted
from tests.proxy.client import Event, Json, Stream
from tests.serving import Served, serving

Headers = Mapping[str, str] | Sequence[tuple[str, str]] | None
BACKGROUND: dict[str, Any] = {"background": True, "stream": True}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a test acts on."""

    agent: Agent
    served: Served
    client: httpx.AsyncClient

    async def create(self, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        """POST /responses, read to its end."""
        return await self.client.post("/responses", json={"model": "m", "input": "hi", **body}, headers=headers)

    async def created(self, headers: Mapping[str, str] | None = None, **body: Any) -> str:
        """The id of a new background response that can be replayed; its stream is not read further than that."""
        async with self.stream(headers, **BACKGROUND, **body) as stream:
            return await id_from(stream)

    @contextlib.asynccontextmanager
    async def stream(self, headers: Mapping[str, str] | None = None, **body: Any) -> AsyncIterator[Stream]:
        """POST /responses, read as it comes."""
        whole_body = {"model": "m", "input": "hi", "stream": True, **body}
        async with self.client.stream("POST", "/responses", json=whole_body, headers=headers) as response:
            yield Stream(response)

    @contextlib.asynccontextmanager
    async def replay(self, response_id: str, **query: str) -> AsyncIterator[Stream]:
        """GET of the events, read as they come."""
        path = f"/responses/{response_id}"
        async with self.client.stream("GET", path, params={"stream": "true", **query}) as response:
            yield Stream(response)

    async def events(self, response_id: str, **query: str) -> list[Event]:
        """The replay to its end."""
        async with self.replay(response_id, **query) as stream:
            assert stream.response.status_code == 200, await stream.response.aread()
            return await stream.rest()

    async def get(self, response_id: str, headers: Headers = None) -> Json:
        """The response object."""
        answer = await self.client.get(f"/responses/{response_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        value: Json = answer.json()
        return value

    async def cancel(self, response_id: str) -> httpx.Response:
        return await self.client.post(f"/responses/{response_id}/cancel")

    async def delete(self, response_id: str) -> httpx.Response:
        return await self.client.delete(f"/responses/{response_id}")


async def id_from(stream: Stream) -> str:
    """The id that the first event tells."""
    first = await stream.next()
    assert first is not None
    assert first.name == "response.created"
    return str(first.data["response"]["id"])


@contextlib.asynccontextmanager
async def scene(
    *scripts: Script, store: Store | None = None, path: str = "", upstream: str | None = None, **options: Any
) -> AsyncIterator[Scene]:
    """`options` are Settings; `path` is that of the agent's URL, `upstream` stands for the whole of it."""
    async with (
        scripted(*scripts) as agent,
        serving(upstream or agent.url + path, store=store, **options) as served,
        httpx.AsyncClient(base_url=served.url, timeout=None, trust_env=False, verify=False) as client,
    ):
        yield Scene(agent, served, client)


@contextlib.asynccontextmanager
async def administration(s: Scene) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the administrator's port."""
    server, listener = Server(s.served.app), bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await server.listen(listener, {"admin": True})
    try:
        async with httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, verify=False) as client:
            yield client
    finally:
        await server.close(0)
