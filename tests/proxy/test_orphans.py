"""What a dead process left behind, at the next start: one end for each response, the one committed first."""

import asyncio

import httpx
import pytest

from respool.proxy.app import App
from respool.proxy.protocol.jsons import dumps
from respool.proxy.protocol.sse import encode
from respool.proxy.server import Server, bind
from respool.proxy.settings import Settings
from respool.store.backend import Adopt
from respool.store.base import Chunk, Head, Key, Store
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.status import Status
from tests.proxy.agent import HELLO, saying
from tests.proxy.client import whole
from tests.proxy.scene import scene
from tests.proxy.storage import Turnstile
from tests.store.probe import Probe

GIVEN_ID = "caresp_" + "o" * 50
FIELDS = {"id": GIVEN_ID, "object": "response", "created_at": 1, "background": True, "store": True}


async def left_behind(store: Store, key: Key) -> None:
    """A response of a process that died before the first event."""
    envelope = dumps({**FIELDS, "id": key.id})
    await store.create(Head(key, Status.IN_PROGRESS, True, True, 1, envelope), b"{}")


@pytest.mark.parametrize(("is_cancelled", "status"), [(False, "failed"), (True, "cancelled")])
async def test_an_orphan_ends_at_the_start_as_what_was_committed_first(is_cancelled: bool, status: str) -> None:
    key, store = Key("", GIVEN_ID), Log(MemoryBackend())
    await left_behind(store, key)
    if is_cancelled:
        await store.request_cancel(key)
    async with scene(saying(*HELLO), store=store) as s:
        final = await s.get(GIVEN_ID)
        assert final["status"] == status
        assert (final["error"] or {}).get("code") == (None if is_cancelled else "owner_lost")
        assert whole(await s.events(GIVEN_ID)) == final
        assert s.agent.asked == []


async def test_an_orphan_of_which_a_client_saw_created_alone_ends_with_the_next_number() -> None:
    """The dead process may have shown an end with that number while its storage failed."""
    key, store = Key("", GIVEN_ID), Log(MemoryBackend())
    await left_behind(store, key)
    created = {"type": "response.created", "sequence_number": 0, "response": {**FIELDS, "status": "in_progress"}}
    await store.append(key, 1, Chunk.of(0, [encode(b"response.created", dumps(created))], 1))
    async with scene(saying(*HELLO), store=store) as s:
        _, end = await s.events(GIVEN_ID)
        assert (end.name, end.data["sequence_number"]) == ("response.failed", 1)
        assert end.data["response"] == await s.get(GIVEN_ID)


async def test_the_ends_of_many_orphans_share_transactions() -> None:
    probe = Probe(MemoryBackend())
    store = Log(probe)
    keys = [Key("", f"caresp_{number:050}") for number in range(200)]
    await asyncio.gather(*(left_behind(store, key) for key in keys))
    probe.commits = 0
    async with scene(saying(*HELLO), store=store) as s:
        assert probe.commits <= 20
        assert {(await s.get(key.id))["error"]["code"] for key in keys} == {"owner_lost"}


async def test_while_orphans_are_ended_only_the_probe_of_the_process_is_answered() -> None:
    """What asks for anything else is not refused but answered after it: nobody sees a response without an end."""
    storage = Turnstile()
    await left_behind(storage.log, Key("", GIVEN_ID))
    storage.close_gate()
    app = App(Settings.model_validate({"upstream": "http://127.0.0.1:1"}), storage.log)
    server, listener = Server(app), bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    await server.listen(listener)
    starting = asyncio.create_task(app.start())
    try:
        await storage.comes(Adopt)
        async with httpx.AsyncClient(base_url=url, timeout=None, trust_env=False, verify=False) as client:
            asking = [
                asyncio.create_task(client.get(path))
                for path in (f"/responses/{GIVEN_ID}", "/_respool/responses?conversation=c", "/_respool/ready")
            ]
            assert (await client.get("/_respool/health")).status_code == 200
            assert not any(task.done() for task in asking)
            storage.gate.set()
            assert await starting == 1
            answers = [await task for task in asking]
            assert [answer.status_code for answer in answers] == [200, 200, 200]
            assert answers[0].json()["error"]["code"] == "owner_lost"
    finally:
        await server.close(0)
        await app.close()
