"""Faults of our own: told in the shape of the API without a detail, and never taken for a whole answer."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from respool.store.backend import Create, Write
from respool.store.base import Key, Page, StoreError
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from tests.proxy.agent import Wire, answer, closing, completed, delta, opening, saying
from tests.proxy.client import error_of, text_of, whole
from tests.proxy.scene import BACKGROUND, scene


class Defective(MemoryBackend):
    """A backend with a defect in what `at` names."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    async def commit(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        return self.commit_now(writes)

    def commit_now(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        if self.at == "create" and any(isinstance(write, Create) for write in writes):
            raise LookupError("a detail of ours")
        return super().commit_now(writes)

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        if self.at == ("read" if after < 0 else "read on"):
            raise LookupError("a detail of ours")
        return await super().read(key, after, max_bytes)


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, BACKGROUND])
async def test_a_defect_at_the_create_is_an_error_without_a_detail(asked: dict[str, Any]) -> None:
    async with scene(saying(*answer("a")), store=Log(Defective("create"))) as s:
        response = await s.create(**asked)
        assert response.status_code == 500
        error = error_of(response)
        assert (error["code"], error["message"]) == ("server_error", "internal server error")
        assert "detail" not in response.text
        assert response.headers["x-should-retry"] == "false"
        assert s.agent.asked == []


async def test_a_defect_at_the_create_takes_no_turn_from_those_who_come_after() -> None:
    backend = Defective("create")
    async with scene(saying(*answer("a")), store=Log(backend), max_in_flight=1) as s:
        assert (await s.create()).status_code == 500
        backend.at = ""
        async with asyncio.timeout(20):
            assert (await s.create()).json()["status"] == "completed"


async def test_a_defect_in_a_stream_that_has_begun_cuts_it() -> None:
    # Nothing of an ended response stays in memory, so that a replay must read what cannot be read.
    store = Log(Defective("read on"), ended_tail_bytes=0)
    async with scene(saying(*answer("a" * 300_000)), store=store, replay="any") as s:
        created = await s.create()
        async with s.replay(created.json()["id"]) as stream:
            assert stream.response.status_code == 200
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await stream.rest()
        assert (await s.client.get("/_respool/health")).status_code == 200


async def test_a_defect_before_a_stream_has_begun_is_an_error_without_a_detail() -> None:
    store = Log(Defective("read"), ended_tail_bytes=0)
    async with scene(saying(*answer("a")), store=store, replay="any") as s:
        created = await s.create()
        response = await s.client.get(f"/responses/{created.json()['id']}", params={"stream": "true"})
        assert (response.status_code, error_of(response)["message"]) == (500, "internal server error")


async def test_a_defect_in_the_middle_of_a_run_ends_it_without_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*opening(), delta("a"))
        await going_on.wait()
        # The delta that comes in the same piece is numbered before the defect is met, and is written by nobody.
        numbered = {"type": "response.output_text.delta", "sequence_number": 99, **delta("b")}
        await wire.say(numbered, *closing("ab"), completed("ab"))

    def broken(*_: object) -> bytes:
        raise LookupError("a detail of ours")

    async with scene(script) as s, s.stream(**BACKGROUND) as stream:
        events = await stream.until("response.output_text.delta")
        monkeypatch.setattr("respool.proxy.protocol.repair.stamp_item", broken)
        going_on.set()
        final = whole([*events, *await stream.rest()])
        assert (final["status"], final["error"]["message"], text_of(final)) == ("failed", "internal server error", "a")
        assert await s.get(final["id"]) == final
