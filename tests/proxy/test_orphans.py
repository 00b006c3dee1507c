"""What a dead process left behind, at the next start: one end for each response, the one committed first."""

import pytest

from respool.proxy.protocol.jsons import dumps
from respool.store.base import Head, Key
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
