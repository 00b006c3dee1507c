"""The word of an auth service on who may use respool's own routes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from respool.proxy import auth_probe
from respool.proxy.auth_probe import AuthProbe
from tests.proxy.agent import Agent, Script, Wire, answer, answering, saying, scripted, silent
from tests.proxy.client import error_of
from tests.proxy.scene import Scene, administration, scene
from tests.serving import until

HELLO = saying(*answer("Hello"))
ID = "caresp_" + "p" * 50
PASS = answering("204 No Content", b"")
REFUSE = answering("401 Unauthorized", b'{"why":"no"}', "www-authenticate: Bearer realm=x", "server: guard")
TOKEN = {"authorization": "Bearer t"}
CREDENTIAL = [(b"authorization", b"t")]


@contextlib.asynccontextmanager
async def guarded(*scripts: Script, path: str = "/auth", **options: Any) -> AsyncIterator[tuple[Scene, Agent]]:
    """respool before an agent, with an auth service beside it that follows the scripts."""
    async with scripted(*scripts) as service, scene(HELLO, auth_probe=service.url + path, **options) as s:
        yield s, service


async def status(s: Scene, headers: dict[str, str] | list[tuple[str, str]] = TOKEN) -> int:
    return (await s.client.get(f"/responses/{ID}", headers=headers)).status_code


# --- what it is asked


async def test_it_is_asked_with_the_callers_headers_and_nothing_of_what_they_want() -> None:
    async with guarded(PASS, path="/auth?realm=a%2Fb") as (s, service):
        headers = {
            **TOKEN,
            "cookie": "c=1",
            "x-agent-user-id": "ann",
            "x-request-id": "r",
            "idempotency-key": "i",
            "connection": "x-hop",
            "x-hop": "h",
        }
        assert (await s.create(headers)).status_code == 200
        (asked,) = service.asked
        assert (asked.method, asked.target, asked.body) == ("GET", "/auth?realm=a%2Fb", b"")
        assert asked.header("authorization") == ["Bearer t"]
        assert asked.header("cookie") == ["c=1"]
        assert asked.header("x-agent-user-id") == ["ann"]
        assert asked.header("host") == [service.url.removeprefix("http://")]
        for name in ("content-length", "content-type", "x-request-id", "idempotency-key", "x-hop", "connection"):
            assert asked.header(name) == []


async def test_it_is_asked_before_anything_of_ours_and_of_nothing_else() -> None:
    async with guarded(REFUSE) as (s, service):
        for method, path in (
            ("POST", "/responses"),
            ("GET", f"/responses/{ID}"),
            ("GET", f"/responses/{ID}?stream=true"),
            ("POST", f"/v1/responses/{ID}/cancel"),
            ("DELETE", f"/responses/{ID}"),
            ("GET", f"/responses/{ID}/input_items"),
            ("GET", "/_respool/responses"),
        ):
            assert (await s.client.request(method, path)).status_code == 401
        assert s.agent.asked == []
        asked = len(service.asked)
        for path in ("/_respool/health", "/_respool/ready", "/runs"):
            assert (await s.client.get(path)).status_code == 200
        assert len(service.asked) == asked


async def test_the_administrators_port_is_not_for_users_to_be_asked_about() -> None:
    async with guarded(REFUSE) as (s, service), administration(s) as admin:
        assert (await admin.get("/_respool/responses")).status_code == 200
        assert service.asked == []


# --- what it says


@pytest.mark.parametrize("head", ["200 OK", "204 No Content", "299 Odd"])
async def test_a_good_answer_lets_pass(head: str) -> None:
    async with guarded(answering(head, b"")) as (s, _):
        assert await status(s) == 404


async def test_its_refusal_is_handed_on_with_its_words() -> None:
    async with guarded(REFUSE) as (s, _):
        response = await s.client.get(f"/responses/{ID}")
        assert (response.status_code, response.json()) == (401, {"why": "no"})
        assert response.headers["www-authenticate"] == "Bearer realm=x"
        assert response.headers["x-request-id"]
    async with guarded(answering("403 Forbidden", b"go", kind="text/plain")) as (s, _):
        response = await s.client.post("/responses", content=b"x" * 2**20)
        assert (response.status_code, response.text) == (403, "go")


@pytest.mark.parametrize(
    "head", ["302 Found", "400 Bad Request", "404 Not Found", "407 X", "429 X", "500 Error", "503 Busy"]
)
async def test_any_other_answer_lets_nobody_in(head: str) -> None:
    async with guarded(answering(head, b"words", "location: /login")) as (s, _):
        response = await s.client.get(f"/responses/{ID}", headers=TOKEN)
        assert (response.status_code, error_of(response)["code"]) == (503, "access_unknown")
        assert response.headers["x-platform-error-source"] == "platform"


async def hang_up(wire: Wire) -> None:
    await wire.request()


async def babble(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"what?\r\n\r\n")


async def refuse_without_end(wire: Wire) -> None:
    await wire.request()
    await wire.begin(status="401 No")
    while True:
        await wire.chunk(b"x" * 65_536)


@pytest.mark.parametrize("script", [hang_up, babble, refuse_without_end])
async def test_a_service_that_breaks_lets_nobody_in(script: Script) -> None:
    async with guarded(script) as (s, _):
        assert await status(s) == 503


async def test_a_service_that_is_not_there_lets_nobody_in() -> None:
    async with scene(HELLO, auth_probe="http://127.0.0.1:1/auth") as s:
        assert await status(s) == 503
        assert (await s.create()).status_code == 503
        assert s.agent.asked == []


async def test_a_service_that_does_not_answer_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_probe, "_ANSWER_SECONDS", 0.05)
    async with guarded(silent, connect_timeout_seconds=0.05) as (s, _):
        assert await status(s) == 503


# --- what is remembered


async def test_a_good_answer_is_remembered_for_all_that_was_asked() -> None:
    async with guarded(PASS) as (s, service):
        for request_id in ("1", "2", "3"):
            assert await status(s, {**TOKEN, "x-request-id": request_id, "accept": f"text/{request_id}"}) == 404
        assert (await s.create(TOKEN)).status_code == 200
        assert len(service.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"authorization": "Bearer u"},
        {},
        {**TOKEN, "x-agent-user-id": "bob"},
        {**TOKEN, "cookie": "c"},
        {**TOKEN, "x-anything": "1"},
        [("authorization", "Bearer t"), ("authorization", "Bearer t")],
        {"authorizatio": "nBearer t"},
    ],
)
async def test_another_credential_is_asked_for_by_itself(other: dict[str, str] | list[tuple[str, str]]) -> None:
    async with guarded(PASS, REFUSE) as (s, _):
        assert await status(s, TOKEN) == 404
        assert await status(s, other) == 401
        assert await status(s, TOKEN) == 404


@pytest.mark.parametrize("script", [REFUSE, answering("500 X", b"")])
async def test_a_bad_answer_is_not_remembered(script: Script) -> None:
    async with guarded(script, PASS) as (s, _):
        assert await status(s) in (401, 503)
        assert await status(s) == 404


async def test_an_answer_is_forgotten_after_a_minute() -> None:
    now = 0.0
    async with scripted(PASS, REFUSE) as service:
        probe = AuthProbe(service.url, 5, clock=lambda: now)
        assert await probe.refusal(CREDENTIAL) is None
        now = 59.9
        assert await probe.refusal(CREDENTIAL) is None
        now = 60.1
        assert await probe.refusal(CREDENTIAL) is not None
        assert len(service.asked) == 2
        await probe.close()


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_probe, "_MOST_REMEMBERED", 2)
    async with guarded(PASS, PASS, PASS, REFUSE) as (s, service):
        for token in "abc":
            assert await status(s, {"api-key": token}) == 404
        assert await status(s, {"api-key": "c"}) == await status(s, {"api-key": "b"}) == 404
        assert len(service.asked) == 3
        assert await status(s, {"api-key": "a"}) == 401


async def test_fifty_at_once_ask_once() -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await going_on.wait()
        await wire.answer("200 OK", b"")

    async with scripted(script) as service:
        probe = AuthProbe(service.url, 5)
        waiting = [asyncio.create_task(probe.refusal(CREDENTIAL)) for _ in range(50)]
        await until(lambda: service.asked)
        going_on.set()
        assert await asyncio.gather(*waiting) == [None] * 50
        assert len(service.asked) == 1
        await probe.close()


async def test_a_caller_who_leaves_takes_nothing_from_the_others() -> None:
    going_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await going_on.wait()
        await wire.answer("200 OK", b"")

    async with scripted(script) as service:
        probe = AuthProbe(service.url, 5)
        first, second = (asyncio.create_task(probe.refusal(CREDENTIAL)) for _ in range(2))
        await until(lambda: service.asked)
        first.cancel()
        going_on.set()
        assert await second is None
        assert len(service.asked) == 1
        await probe.close()
