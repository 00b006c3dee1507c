"""A limit on the runs in flight: what waits, in which order, who may end it, and what becomes of it over a restart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.environments import free_port
from respool.proxy.calls import kept
from respool.proxy.run import Call
from respool.proxy.settings import Settings
from respool.store.backend import Start
from respool.store.log import Log
from respool.store.open import open_store
from respool.store.status import Status
from tests.checker import faults, read_file, read_store
from tests.proxy.agent import Held, Script, Wire, answer, answering, saying, scripted, silent
from tests.proxy.client import Stream, dial, error_of, events_of, posting, text_of, whole
from tests.proxy.scene import BACKGROUND, Scene, scene
from tests.proxy.storage import CHOSEN, GIVEN_ID, KEY, Turnstile
from tests.serving import start_respool, until
from tests.store.probe import head

HELLO = saying(*answer("Hel", "lo"))
FIRST = {"x-agent-response-id": "caresp_" + "1" * 50}
ANN = {"x-agent-user-id": "ann"}
SHUTDOWN = {"code": "server_shutdown", "message": "The server was shut down before the response was complete."}


@asynccontextmanager
async def busy(*scripts: Script, store: Log | None = None, **options: Any) -> AsyncIterator[tuple[Scene, Held]]:
    """A scene in which a first run has the only slot, until it is told to go on."""
    held = Held()
    async with scene(held, *scripts, store=store, **{"max_in_flight": 1, **options}) as s:
        first = asyncio.create_task(s.create(FIRST, **BACKGROUND))
        await held.reached.wait()
        yield s, held
        held.going_on.set()
        if held.finished.is_set():
            await first
        first.cancel()


def waiting(s: Scene) -> int:
    return len(s.served.app.runs.slots._waiting)


def names(events: list[Any]) -> list[str]:
    return [event.name.removeprefix("response.") for event in events]


async def ended(s: Scene, response_id: str) -> dict[str, Any]:
    while (value := (await s.client.get(f"/responses/{response_id}")).json()).get("status") in (
        None,
        "queued",
        "in_progress",
    ):
        pass
    result: dict[str, Any] = value
    return result


# --- what waits


@pytest.mark.parametrize("asked", [{"stream": True}, BACKGROUND])
async def test_a_stream_is_told_that_it_is_queued_and_then_goes_on_as_any(asked: dict[str, Any]) -> None:
    async with busy(HELLO) as (s, held), s.stream(CHOSEN, **asked) as stream:
        begun = await stream.until("response.queued")
        assert names(begun) == ["created", "queued"]
        assert [event.data["response"]["status"] for event in begun] == ["queued", "queued"]
        assert len(s.agent.asked) == 1
        held.going_on.set()
        events = [*begun, *await stream.rest()]
        assert names(events)[:4] == ["created", "queued", "in_progress", "output_item.added"]
        assert [event.data["response"]["status"] for event in events if "response" in event.data][2] == "in_progress"
        final = whole(events)
        assert (final["status"], text_of(final)) == ("completed", "Hello")
        assert await s.get(GIVEN_ID) == final
        assert len(s.agent.asked) == 2


async def test_a_background_create_is_answered_queued_at_once_and_polls_say_what_it_is() -> None:
    second = Held(None)
    async with busy(second, accept_grace_ms=600_000) as (s, held):
        s.client.headers.update(ANN)
        created = await s.create(CHOSEN, background=True)
        assert created.status_code == 200
        value = created.json()
        assert (value["status"], value["background"], value["output"]) == ("queued", True, [])
        assert await s.get(GIVEN_ID) == value
        listed = (await s.client.get("/_respool/responses", params={"status": "queued"}, headers=ANN)).json()
        assert [found["id"] for found in listed["data"]] == [GIVEN_ID]
        held.going_on.set()
        await second.reached.wait()
        assert (await s.get(GIVEN_ID))["status"] == "in_progress"
        second.going_on.set()
        assert text_of(await ended(s, GIVEN_ID)) == "Hello"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_foreground_create_holds_its_connection_until_its_end(stream: bool) -> None:
    async with busy(HELLO) as (s, held):
        posting_ = asyncio.create_task(s.create(CHOSEN, stream=stream))
        await until(lambda: waiting(s) == 1)
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404
        assert not posting_.done()
        held.going_on.set()
        response = await posting_
        value = whole(events_of(response.content)) if stream else response.json()
        assert (value["status"], text_of(value)) == ("completed", "Hello")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_create_without_store_waits_too(stream: bool) -> None:
    async with busy(HELLO) as (s, held):
        posting_ = asyncio.create_task(s.create(store=False, stream=stream))
        await until(lambda: waiting(s) == 1)
        held.going_on.set()
        response = await posting_
        value = whole(events_of(response.content)) if stream else response.json()
        assert text_of(value) == "Hello"


async def test_the_agent_is_called_in_the_order_of_the_posts_and_never_by_more_than_the_limit() -> None:
    most = open_now = 0
    order: list[str] = []

    async def script(wire: Wire) -> None:
        nonlocal most, open_now
        order.append((await wire.request()).json["user"])
        open_now += 1
        most = max(most, open_now)
        await wire.begin()
        await wire.say(*answer("x"))
        await asyncio.sleep(0)
        open_now -= 1
        await wire.end()

    async with scene(script, max_in_flight=3) as s:
        posts = []
        for number in range(40):
            asked = [{}, {"stream": True}, {"background": True}, BACKGROUND, {"store": False}][number % 5]
            posts.append(asyncio.create_task(s.create(**asked, user=str(number))))
            await until(lambda: len(s.agent.asked) + waiting(s) > number)  # noqa: B023
        assert {(await post).status_code for post in posts} == {200}
        await until(lambda: not s.served.app.runs._tasks)
        assert order == [str(number) for number in range(40)]
        assert most <= 3


async def test_a_slot_is_free_when_the_agents_connection_is_done_and_not_before() -> None:
    remembered = asyncio.Event()

    async def remembering(wire: Wire) -> None:
        await wire.request()
        await wire.begin()
        await wire.say(*answer("x"))
        await remembered.wait()
        await wire.end()

    async with scene(remembering, HELLO, max_in_flight=1) as s:
        await s.create(**BACKGROUND)
        second = asyncio.create_task(s.create())
        await until(lambda: waiting(s) == 1)
        remembered.set()
        assert text_of((await second).json()) == "Hello"


@pytest.mark.parametrize("first", [silent, answering("500 Internal Server Error", b"{}")])
async def test_a_slot_comes_back_however_a_run_ends(first: Script) -> None:
    async with scene(first, HELLO, max_in_flight=1, header_timeout_seconds=0.05) as s:
        assert (await s.create()).status_code in (500, 504)
        assert text_of((await s.create()).json()) == "Hello"


async def test_a_create_that_is_refused_or_cannot_be_written_takes_no_slot() -> None:
    store = Turnstile()
    async with scene(HELLO, store=store.log, max_in_flight=1) as s:
        store.broken.add(KEY)
        assert (await s.create(CHOSEN)).status_code == 503
        store.broken.clear()
        assert (await s.create(CHOSEN)).status_code == 200
        assert (await s.create(CHOSEN)).status_code == 409
        assert (await s.create()).status_code == 200


async def test_a_foreground_json_create_that_waited_gets_the_agents_refusal_as_it_is() -> None:
    async with busy(answering("429 Too Many Requests", b'{"slow":1}', "retry-after: 3")) as (s, held):
        posting_ = asyncio.create_task(s.create(CHOSEN))
        await until(lambda: waiting(s) == 1)
        held.going_on.set()
        response = await posting_
        assert (response.status_code, response.json(), response.headers["retry-after"]) == (429, {"slow": 1}, "3")
        assert (await s.client.get(f"/responses/{GIVEN_ID}")).status_code == 404


@pytest.mark.parametrize("asked", [{"stream": True}, {"background": True}, BACKGROUND])
async def test_who_was_told_of_the_queue_is_told_of_the_refusal_by_a_failed_response(asked: dict[str, Any]) -> None:
    async with busy(answering("429 Too Many Requests", b'{"error":{"code":"slow","message":"down"}}')) as (s, held):
        posting_ = asyncio.create_task(s.create(CHOSEN, **asked))
        await until(lambda: waiting(s) == 1)
        held.going_on.set()
        await posting_
        value = await ended(s, GIVEN_ID)
        assert (value["status"], value["error"]) == ("failed", {"code": "slow", "message": "down"})


async def test_a_response_that_waits_cannot_be_deleted_nor_continued() -> None:
    async with busy(HELLO) as (s, _):
        await s.create(CHOSEN, background=True)
        assert error_of(await s.delete(GIVEN_ID))["message"] == "Cannot delete an in-flight response."
        assert (await s.create(previous_response_id=GIVEN_ID)).status_code == 400
        await s.cancel(GIVEN_ID)


async def test_a_follower_of_a_response_that_waits_gets_all_of_it() -> None:
    async with busy(HELLO) as (s, held):
        await s.stream(CHOSEN, **BACKGROUND).__aenter__()
        async with s.replay(GIVEN_ID) as follower:
            begun = await follower.until("response.queued")
            held.going_on.set()
            assert whole([*begun, *await follower.rest()])["status"] == "completed"


# --- who leaves, and who cancels


@pytest.mark.parametrize("asked", [{"background": True}, BACKGROUND])
async def test_a_cancel_ends_what_waits_at_once_and_the_agent_is_never_called(asked: dict[str, Any]) -> None:
    async with busy(HELLO) as (s, held):
        posting_ = asyncio.create_task(s.create(CHOSEN, **asked))
        await until(lambda: waiting(s) == 1)
        while (cancelled := await s.cancel(GIVEN_ID)).status_code == 404:
            pass
        value = cancelled.json()
        assert (value["status"], value["output"], value["error"]) == ("cancelled", [], None)
        assert (await s.cancel(GIVEN_ID)).json() == value
        if asked.get("stream"):
            events = events_of((await posting_).content)
            assert names(events) == ["created", "queued", "failed"]
            assert whole(events) == value
        held.going_on.set()
        assert text_of((await s.create()).json()) == "Hello"
        assert len(s.agent.asked) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["close", "finish", "reset"])
async def test_a_foreground_client_that_leaves_while_it_waits_takes_its_place_with_it(stream: bool, how: str) -> None:
    async with busy(HELLO) as (s, held):
        async with dial(s.served.url) as raw:
            await raw.send(posting("/responses", {"input": "hi", "stream": stream}, f"x-agent-response-id: {GIVEN_ID}"))
            await until(lambda: waiting(s) == 1)
            if how != "close":
                getattr(raw, how)()
                await until(lambda: waiting(s) == 0)
        await until(lambda: waiting(s) == 0)
        assert (await ended(s, GIVEN_ID))["status"] == "cancelled"
        held.going_on.set()
        await s.create()
        assert len(s.agent.asked) == 2


async def test_a_background_client_that_leaves_while_it_waits_changes_nothing() -> None:
    async with busy(HELLO) as (s, held):
        async with s.stream(CHOSEN, **BACKGROUND) as stream:
            await stream.until("response.queued")
        held.going_on.set()
        assert text_of(await ended(s, GIVEN_ID)) == "Hello"


async def test_a_foreground_run_with_a_key_keeps_its_place_without_its_client() -> None:
    async with busy(HELLO) as (s, held):
        async with dial(s.served.url) as raw:
            headers = (f"x-agent-response-id: {GIVEN_ID}", "idempotency-key: k")
            await raw.send(posting("/responses", {"input": "hi"}, *headers))
            await until(lambda: waiting(s) == 1)
        held.going_on.set()
        assert text_of(await ended(s, GIVEN_ID)) == "Hello"


async def test_a_cancel_that_is_committed_before_the_start_keeps_the_agent_from_being_called() -> None:
    store = Turnstile()
    async with busy(HELLO, store=store.log) as (s, held), s.stream(CHOSEN, **BACKGROUND) as stream:
        begun = await stream.until("response.queued")
        await store.log.request_cancel(KEY)  # committed, and the run has not heard of it
        held.going_on.set()
        events = [*begun, *await stream.rest()]
        assert names(events) == ["created", "queued", "failed"]
        assert whole(events)["status"] == "cancelled"
        assert any(isinstance(write, Start) for write in store.asked)
        assert len(s.agent.asked) == 1


async def test_a_start_that_is_committed_before_the_cancel_is_a_run_that_is_cancelled() -> None:
    store, second = Turnstile(), Held()
    async with busy(second, store=store.log) as (s, held), s.stream(CHOSEN, **BACKGROUND) as stream:
        await stream.until("response.queued")
        held.going_on.set()
        await second.reached.wait()
        assert (await s.cancel(GIVEN_ID)).json()["status"] == "cancelled"
        await second.left.wait()
        assert names(await stream.rest())[-1] == "failed"


async def test_a_start_that_cannot_be_written_fails_the_run_and_the_agent_is_not_called() -> None:
    store = Turnstile()
    async with busy(HELLO, store=store.log) as (s, held), s.stream(CHOSEN, **BACKGROUND) as stream:
        begun = await stream.until("response.queued")
        store.broken.add(KEY)
        held.going_on.set()
        final = whole([*begun, *await stream.rest()])
        assert (final["status"], final["error"]["code"]) == ("failed", "storage_error")
        store.broken.clear()
        assert (await ended(s, GIVEN_ID)) == final
        assert len(s.agent.asked) == 1


# --- over a stop and a restart


async def test_what_waits_stays_queued_over_a_stop_and_starts_after_it_in_order(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'x.db'}"
    ids = [f"caresp_{number}" + "q" * 49 for number in range(5)]
    headers = {"x-agent-user-id": "ann", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
    async with busy(silent, store=await open_store(address), grace_seconds=0) as (s, _):  # type: ignore[arg-type]
        for number, id_ in enumerate(ids):
            created = await s.create({**headers, "x-agent-response-id": id_}, background=True, user=str(number))
            assert created.json()["status"] == "queued"
        await s.served.app.drain()
        for id_ in ids:
            found = await s.client.get(f"/responses/{id_}", headers=headers)
            assert found.json()["status"] == "queued"
        cancelled = await s.client.post(f"/responses/{ids[2]}/cancel", headers=headers)
        assert cancelled.json()["status"] == "cancelled"
        assert len(s.agent.asked) == 1
    async with scene(HELLO, store=await open_store(address), max_in_flight=1) as s:
        await until(lambda: len(s.agent.asked) == 4 and not s.served.app.runs._tasks)
        assert [asked.json["user"] for asked in s.agent.asked] == ["0", "1", "3", "4"]
        for asked in s.agent.asked:
            assert asked.header("x-agent-user-id") == ["ann"]
            assert asked.json["stream"] is True
            assert "background" not in asked.json
        assert s.agent.asked[0].header("x-agent-response-id") == [ids[0]]
        for id_ in ids:
            final = (await s.client.get(f"/responses/{id_}", headers=headers)).json()
            assert final["status"] == ("cancelled" if id_ == ids[2] else "completed")
        assert [faults(one, []) for one in (await read_store(s.served.store)).values()] == [[]] * 6


@pytest.mark.parametrize(
    "secret",
    [
        {"authorization": "Bearer s3cret"},
        {"api-key": "s3cret"},
        {"x-api-key": "s3cret"},
        {"cookie": "s3cret"},
        {"x-agent-user-token": "s3cret"},
        {"x-tenant": "s3cret"},
    ],
)
async def test_what_waits_and_came_with_a_credential_ends_with_the_process(
    tmp_path: Path, secret: dict[str, str]
) -> None:
    address = f"sqlite:///{tmp_path / 'x.db'}"
    async with busy(silent, store=await open_store(address), grace_seconds=600) as (s, held):  # type: ignore[arg-type]
        async with s.stream({**CHOSEN, **secret}, **BACKGROUND) as stream:
            begun = await stream.until("response.queued")
            draining = asyncio.create_task(s.served.app.drain())
            final = whole([*begun, *await stream.rest()])
            assert (final["status"], final["error"]) == ("failed", SHUTDOWN)
        held.going_on.set()
        await draining
        assert len(s.agent.asked) == 1
    assert not [path for path in tmp_path.iterdir() if b"s3cret" in path.read_bytes()]  # noqa: ASYNC240 - it is over


@pytest.mark.parametrize("secret", [[(b"authorization", b"Bearer s3cret")], []])
@pytest.mark.parametrize("background", [True, False])
async def test_what_a_dead_process_left_waiting_goes_on_if_it_can(
    tmp_path: Path, secret: list[tuple[bytes, bytes]], background: bool
) -> None:
    address = f"sqlite:///{tmp_path / 'x.db'}"
    store = await open_store(address)
    envelope = b'{"id":"%b","background":true}' % GIVEN_ID.encode()
    left = replace(head(KEY, status=Status.QUEUED), envelope=envelope, background=background, previous_id=None)
    call = kept(Settings.model_validate({"upstream": "http://agent"}), Call(b"", secret, b"api-version=1"))
    await store.create(left, b'{"input":"hi","background":true,"stream":true}', call=call if background else None)
    await store.close()
    goes_on = background and not secret
    async with scene(HELLO, store=await open_store(address), max_in_flight=1) as s:
        final = await ended(s, GIVEN_ID)
        assert final["status"] == ("completed" if goes_on else "failed")
        assert [asked.target for asked in s.agent.asked] == (["/responses?api-version=1"] if goes_on else [])
        [logged] = (await read_store(s.served.store)).values()
        assert faults(logged, []) == []
        assert [frame.split(b"\n")[0] for frame in logged.frames[:2]] == [
            b"event: response.created",
            b"event: response.queued",
        ]
        if not goes_on:
            assert final["error"]["code"] == ("server_shutdown" if background else "owner_lost")


async def test_after_a_kill_and_after_a_stop_what_waits_is_called_once_and_in_order(tmp_path: Path) -> None:
    called: list[str] = []
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        called.append((await wire.request()).json["user"])
        await wire.begin()
        await wire.say(*answer("x"))
        if not going_on.is_set():
            await wire.gone()
        await wire.end()

    ids = {str(number): f"caresp_{number}" + "q" * 49 for number in range(4)}
    port = free_port()
    options = ("--max-in-flight", "1", "--grace-seconds", "0", "--drain-seconds", "600")
    async with scripted(script) as agent, httpx.AsyncClient(timeout=None, trust_env=False) as client:
        server = await asyncio.to_thread(start_respool, agent.url, tmp_path, *options, port=port)
        followers = []
        for user, id_ in ids.items():
            body = {"input": "hi", "user": user, **BACKGROUND}
            request = client.build_request(
                "POST", f"{server.url}/responses", json=body, headers={"x-agent-response-id": id_}
            )
            followers.append(Stream(await client.send(request, stream=True)))
            await followers[-1].until("response.queued" if user != "0" else "response.completed")
        assert called == ["0"]
        server.kill()
        server = await asyncio.to_thread(start_respool, agent.url, tmp_path, *options, port=port)
        try:
            await until(lambda: called == ["0", "1"])
            assert await asyncio.to_thread(server.stop, 30) == 0
            going_on.set()
            server = await asyncio.to_thread(start_respool, agent.url, tmp_path, *options, port=port)
            for id_ in ids.values():
                async with client.stream("GET", f"{server.url}/responses/{id_}?stream=true") as response:
                    assert whole(await Stream(response).rest())["status"] == "completed"
            assert called == ["0", "1", "2", "3"]
        finally:
            await asyncio.to_thread(server.stop, 30)
    logged = read_file(tmp_path / "respool.db")
    assert [faults(one, []) for one in logged.values()] == [[]] * 4


@pytest.mark.parametrize("stream", [False, True])
async def test_a_foreground_create_that_waits_is_told_of_the_stop_at_once(stream: bool) -> None:
    async with busy(silent, grace_seconds=600) as (s, held):
        posting_ = asyncio.create_task(s.create(CHOSEN, stream=stream))
        await until(lambda: waiting(s) == 1)
        draining = asyncio.create_task(s.served.app.drain())
        response = await posting_
        if stream:
            assert whole(events_of(response.content))["error"] == SHUTDOWN
        else:
            assert (response.status_code, error_of(response)["code"]) == (503, "service_unavailable")
            assert "x-should-retry" not in response.headers
        held.going_on.set()
        await draining
        assert len(s.agent.asked) == 1


async def test_one_that_is_still_being_written_is_told_of_the_stop_at_once_too() -> None:
    store = Turnstile()
    async with busy(silent, store=store.log, grace_seconds=600) as (s, held):
        store.close_gate()
        posting_ = asyncio.create_task(s.create(CHOSEN, stream=True))
        await until(lambda: waiting(s) == 1)
        draining = asyncio.create_task(s.served.app.drain())
        await until(lambda: s.served.app.runs.draining)
        store.gate.set()
        assert whole(events_of((await posting_).content))["error"] == SHUTDOWN
        held.going_on.set()
        await draining
        assert len(s.agent.asked) == 1
