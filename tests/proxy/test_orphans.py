"""What a dead process left behind, at the next start: one end for each response, the one committed first."""

import pytest

from respool.proxy.protocol.jsons import dumps
from respool.proxy.protocol.sse import encode
from respool.store.base import Chunk, Head, Key
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.status import Status
from tests.proxy.agent import HELLO, saying
from tests.proxy.client import whole
from tests.proxy.scene import scene

GIVEN_ID = "caresp_" + "o" * 50


@pytest.mark.parametrize(("is_cancelled", "status"), [(False, "failed"), (True, "cancelled")])
async def test_an_orphan_ends_at_the_start_as_what_was_committed_first(is_cancelled: bool, status: str) -> None:
    key, store = Key("", GIVEN_ID), Log(MemoryBackend())
    fields = {"id": GIVEN_ID, "object": "response", "created_at": 1, "background": True, "store": True}
    await store.create(Head(key, Status.IN_PROGRESS, True, True, 1, dumps(fields)), b"{}")
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
    fields = {"id": GIVEN_ID, "object": "response", "created_at": 1, "background": True, "store": True}
    await store.create(Head(key, Status.IN_PROGRESS, True, True, 1, dumps(fields)), b"{}")
    created = {"type": "response.created", "sequence_number": 0, "response": {**fields, "status": "in_progress"}}
    await store.append(key, 1, Chunk.of(0, [encode(b"response.created", dumps(created))], 1))
    async with scene(saying(*HELLO), store=store) as s:
        _, end = await s.events(GIVEN_ID)
        assert (end.name, end.data["sequence_number"]) == ("response.failed", 1)
        assert end.data["response"] == await s.get(GIVEN_ID)
