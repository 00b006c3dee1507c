"""The end of a process that is in the middle of many runs: everybody is told, and nothing is missing afterwards."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.proxy.agent import Held, scripted
from tests.proxy.client import Event, Stream, events_of, whole
from tests.proxy.scene import BACKGROUND
from tests.serving import start_respool

RUNS = 50


@pytest.mark.parametrize(("grace_seconds", "status"), [("600", "completed"), ("0.5", "failed")])
async def test_fifty_runs_end_with_all_their_followers_told_and_the_process_in_order(
    tmp_path: Path, grace_seconds: str, status: str
) -> None:
    """Those that end within the grace by themselves, those that do not as `server_shutdown`."""
    helds = [Held() for _ in range(RUNS)]
    limits = httpx.Limits(max_connections=None)
    async with scripted(*helds) as agent:
        server = start_respool(agent.url, tmp_path, "--grace-seconds", grace_seconds)
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False, limits=limits) as client,
            AsyncExitStack() as streams,
        ):
            posts = await asyncio.gather(*(_posted(client, streams) for _ in range(RUNS)))
            ids = [seen[0].data["response"]["id"] for _, seen in posts]
            followers = await asyncio.gather(*(_followed(client, streams, id_) for id_ in ids))
            server.process.send_signal(signal.SIGTERM)
            while (await client.get("/_respool/ready")).status_code == 200:
                pass
            assert (await client.post("/responses", json={})).status_code == 503
            if status == "completed":
                assert (await client.get(f"/responses/{ids[0]}")).json()["status"] == "in_progress"
                for held in helds:
                    held.going_on.set()
            ends = await asyncio.gather(*(stream.rest() for stream, _ in posts))
            followed = await asyncio.gather(*(stream.rest() for stream in followers))
        assert await asyncio.to_thread(server.process.wait) == 0
        server.stop()
        transcripts = [[*seen, *end] for (_, seen), end in zip(posts, ends, strict=True)]
        assert followed == transcripts
        assert {whole(transcript)["status"] for transcript in transcripts} == {status}
        if status == "failed":
            assert {whole(transcript)["error"]["code"] for transcript in transcripts} == {"server_shutdown"}
        server = start_respool(agent.url, tmp_path)
        async with httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False) as client:
            for id_, transcript in zip(ids, transcripts, strict=True):
                replay = await client.get(f"/responses/{id_}", params={"stream": "true"})
                assert events_of(replay.content) == transcript
                assert (await client.get(f"/responses/{id_}")).json() == whole(transcript)
        assert await asyncio.to_thread(server.stop) == 0
        assert len(agent.asked) == RUNS
    assert "orphan" not in server.log.read_text()


async def _posted(client: httpx.AsyncClient, streams: AsyncExitStack) -> tuple[Stream, list[Event]]:
    """A run in mid-stream, and what its client has seen."""
    response = await streams.enter_async_context(client.stream("POST", "/responses", json={"input": "", **BACKGROUND}))
    stream = Stream(response)
    return stream, await stream.until("response.output_text.delta")


async def _followed(client: httpx.AsyncClient, streams: AsyncExitStack, id_: str) -> Stream:
    """A second reader of it, from the first event on."""
    path = f"/responses/{id_}?stream=true"
    return Stream(await streams.enter_async_context(client.stream("GET", path)))
