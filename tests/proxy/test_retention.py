"""How long a response is kept: counted from its end, never during the run, and not while somebody reads it."""

import os
from pathlib import Path

import pytest

from respool.proxy import clock
from respool.proxy.sweeper import Sweeper
from respool.store.base import Key
from respool.store.log import Log
from respool.store.memory import MemoryBackend
from respool.store.open import open_store
from tests.proxy.agent import Held, answer, completed, delta, opening, saying
from tests.proxy.client import error_of, events_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene
from tests.serving import until
from tests.store.probe import Probe

GIVEN_ID = "caresp_" + "r" * 50
CHOSEN = {"x-agent-response-id": GIVEN_ID}
DAY = 86_400


async def sweep(s: Scene, later_seconds: float) -> None:
    """What the sweeper does so much later."""
    await Sweeper(s.served.store, s.served.settings, lambda: clock.earliest_ms() + round(later_seconds * 1000)).sweep()


async def is_there(s: Scene, id_: str = GIVEN_ID) -> bool:
    http_status = (await s.client.get(f"/responses/{id_}")).status_code
    assert http_status in (200, 404)
    return http_status == 200


async def test_a_response_is_kept_for_its_time_and_then_nobody_finds_it() -> None:
    async with scene(saying(*answer("Hello"))) as s:
        await s.create(CHOSEN, conversation="c", **BACKGROUND)
        await sweep(s, 30 * DAY - 60)
        assert await is_there(s)
        await sweep(s, 30 * DAY + 60)
        path = f"/responses/{GIVEN_ID}"
        for answered in (
            await s.client.get(path),
            await s.client.get(path, params={"stream": "true"}),
            await s.client.get(f"{path}/input_items"),
            await s.client.post(f"{path}/cancel"),
            await s.client.delete(path),
        ):
            assert answered.status_code == 404
            assert error_of(answered)["message"] == f"Response with id '{GIVEN_ID}' not found."
        refused = await s.create(previous_response_id=GIVEN_ID)
        assert (refused.status_code, error_of(refused)["param"]) == (404, "previous_response_id")
        assert (await s.client.get("/_respool/responses?conversation=c")).json()["data"] == []
        assert (await s.create(CHOSEN)).status_code == 200


async def test_a_run_that_says_nothing_for_longer_than_that_is_not_touched() -> None:
    held = Held()
    async with scene(held) as s, s.stream(CHOSEN, background=True) as stream:
        seen = await stream.until("response.output_text.delta")
        await sweep(s, 365 * DAY)
        assert await is_there(s)
        held.going_on.set()
        assert whole([*seen, *await stream.rest()])["status"] == "completed"
        await sweep(s, 29 * DAY)
        assert await is_there(s)


async def test_nothing_goes_where_everything_is_kept_for_ever() -> None:
    async with scene(saying(*answer("Hello")), retention_seconds=0) as s:
        await s.create(CHOSEN)
        await sweep(s, 10_000 * DAY)
        assert await is_there(s)


async def test_items_of_turns_that_have_expired_are_left_out() -> None:
    async with scene(saying(*answer("Hello"))) as s:
        await s.create(CHOSEN, input="first")
        second = (await s.create(input="second", previous_response_id=GIVEN_ID)).json()["id"]
        assert len((await s.client.get(f"/responses/{second}/input_items")).json()["data"]) == 3
        with s.served.store.reading(Key("", second)):
            await sweep(s, 31 * DAY)
        items = (await s.client.get(f"/responses/{second}/input_items")).json()["data"]
        assert [item["content"][0]["text"] for item in items] == ["second"]


async def test_a_replay_under_way_is_whole_though_its_response_expires_meanwhile(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path / 'r.db'}")
    events = [*opening(), *[delta("x" * 10_000) for _ in range(2000)], completed("")]
    async with scene(saying(*events), store=store) as s:
        final = whole(events_of((await s.create(CHOSEN, **BACKGROUND)).content))
        async with s.replay(GIVEN_ID) as stream:
            first = await stream.next()
            assert first is not None
            await sweep(s, 31 * DAY)
            assert whole([first, *await stream.rest()]) == final
        await sweep(s, 31 * DAY)
        assert not await is_there(s)


async def test_a_log_that_is_too_large_loses_what_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    store = await open_store(f"sqlite:///{path}")
    script = saying(*opening(), *[delta("x" * 10_000) for _ in range(100)], completed(""))
    async with scene(script, store=store, max_store_bytes=4_000_000) as s:
        ids = [(await s.create()).json()["id"] for _ in range(6)]
        await sweep(s, 0)
        assert os.path.getsize(path) <= 4_000_000  # noqa: ASYNC240
        left = [id_ for id_ in ids if await is_there(s, id_)]
        assert left == ids[-len(left) :]
        assert 2 <= len(left) <= 3


async def test_it_sweeps_by_itself_and_goes_on_when_the_storage_had_failed(caplog: pytest.LogCaptureFixture) -> None:
    probe = Probe(MemoryBackend())
    async with scene(saying(*answer("Hello")), store=Log(probe), retention_seconds=0.1) as s:
        await s.create(CHOSEN)
        probe.is_down = True
        await until(lambda: "sweep_failed" in caplog.text)
        assert await is_there(s)
        probe.is_down = False
        while await is_there(s):
            pass
