"""Which paths are ours."""

import pytest

from respool.proxy.routes import Prefixes
from respool.proxy.settings import DEFAULT_PREFIXES
from tests.proxy.agent import answer, answering, saying
from tests.proxy.client import dial, error_of, posting
from tests.proxy.scene import scene

ID = "caresp_" + "r" * 50
OURS = [
    ("POST", "/responses", "/responses"),
    ("POST", "/v1/responses", "/responses"),
    ("POST", "/openai/responses", "/responses"),
    ("POST", "/openai/v1/responses", "/responses"),
    ("POST", "/api/projects/p/openai/v1/responses", "/responses"),
    ("POST", "/agents/a/endpoint/protocols/openai/responses", "/responses"),
    ("POST", "/api/projects/p/agents/a/endpoint/protocols/openai/responses", "/responses"),
    ("POST", "/%76%31/responses", "/responses"),
    ("GET", "/responses/x", "/responses/x"),
    ("HEAD", "/responses/x", "/responses/x"),
    ("DELETE", "/v1/responses/x", "/responses/x"),
    ("POST", "/responses/x/cancel", "/responses/x/cancel"),
    ("GET", "/responses/x/input_items", "/responses/x/input_items"),
    ("HEAD", "/responses/x/input_items", "/responses/x/input_items"),
    ("GET", "/responses/a%20b", "/responses/a b"),
    ("GET", "/responses/cancel", "/responses/cancel"),
    ("GET", "/_respool/health", "/_respool/health"),
    ("PUT", "/_respool/anything/else", "/_respool/anything/else"),
]
NOT_OURS = [
    ("GET", "/responses"),
    ("PUT", "/responses"),
    ("OPTIONS", "/responses"),
    ("PUT", "/responses/x"),
    ("PATCH", "/responses/x"),
    ("OPTIONS", "/responses/x"),
    ("GET", "/responses/x/cancel"),
    ("POST", "/responses/x/input_items"),
    ("GET", "/responses/x/other"),
    ("GET", "/responses/x/input_items/y"),
    ("POST", "/responses/"),
    ("GET", "/responses//cancel"),
    ("POST", "/responses//cancel"),
    ("POST", "/Responses"),
    ("POST", "/v1/v1/responses"),
    ("POST", "/v2/responses"),
    ("POST", "//responses"),
    ("POST", "/v1//responses"),
    ("POST", "/v1%2Fresponses"),
    ("POST", "/api/projects//openai/v1/responses"),
    ("POST", "/api/projects/a/b/openai/v1/responses"),
    ("GET", "/"),
    ("GET", ""),
    ("GET", "/_respoolx"),
]


@pytest.mark.parametrize(("method", "path", "seen"), OURS)
def test_these_are_ours(method: str, path: str, seen: str) -> None:
    found = Prefixes(DEFAULT_PREFIXES).match(method, path.encode())
    assert found is not None
    assert found.path == seen


@pytest.mark.parametrize(("method", "path"), NOT_OURS)
def test_these_pass_through(method: str, path: str) -> None:
    assert Prefixes(DEFAULT_PREFIXES).match(method, path.encode()) is None


def test_an_encoded_slash_does_not_make_one_route_look_like_another() -> None:
    prefixes = Prefixes(DEFAULT_PREFIXES)
    read = prefixes.match("GET", b"/responses/x%2Finput_items")
    assert read is not None
    assert read.path == "/responses/x%2Finput_items"
    assert prefixes.match("POST", b"/responses/x%2Fcancel") is None


def test_a_star_stands_for_one_segment_that_is_not_empty() -> None:
    prefixes = Prefixes(["/t/*"])
    assert prefixes.match("POST", b"/t/a/responses") is not None
    assert prefixes.match("POST", b"/t/a%2Fb/responses") is not None
    for path in (b"/t/responses", b"/t//responses", b"/t/a/b/responses", b"/responses"):
        assert prefixes.match("POST", path) is None


async def test_only_the_prefixes_that_were_set_are_ours() -> None:
    async with scene(answering("418 Teapot", b""), prefixes="/mine,/yours/*") as s:
        assert (await s.client.get(f"/mine/responses/{ID}")).status_code == 404
        assert (await s.client.get(f"/yours/x/responses/{ID}")).status_code == 404
        assert s.agent.asked == []
        assert (await s.client.get(f"/responses/{ID}")).status_code == 418
        assert (await s.client.get(f"/v1/responses/{ID}")).status_code == 418


async def test_a_response_is_the_same_under_every_prefix() -> None:
    async with scene(saying(*answer("x"))) as s:
        value = (await s.client.post("/openai/v1/responses?api-version=1", json={})).json()
        for prefix in ("", "/v1", "/openai", "/api/projects/p/openai/v1", "/agents/a/endpoint/protocols/openai"):
            response = await s.client.get(f"{prefix}/responses/{value['id']}?api-version=2025-11-15-preview")
            assert response.json() == value


async def test_an_id_with_an_encoded_slash_is_no_route_of_ours() -> None:
    async with scene(answering("200 OK", b"")) as s, dial(s.served.url) as raw:
        await raw.send(f"GET /responses/{ID}%2Finput_items HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert (await raw.head()).startswith(b"HTTP/1.1 400")
        assert s.agent.asked == []


async def test_an_id_that_is_not_ascii_is_malformed_and_not_an_error_of_ours() -> None:
    async with scene(answering("200 OK", b"")) as s:
        for segment in ("%C3%A9", "%FF%FE", "%00", "a%0d%0ab", "%25"):
            response = await s.client.get(f"/responses/{segment}")
            assert response.status_code == 400
            assert error_of(response)["message"] == "Malformed identifier."
        assert s.agent.asked == []


async def test_a_slash_behind_a_route_of_ours_is_not_redirected() -> None:
    async with scene(answering("418 Teapot", b"")) as s, dial(s.served.url) as raw:
        await raw.send(posting("/v1/responses/", {}, "connection: close"))
        assert (await raw.rest()).startswith(b"HTTP/1.1 418")
        assert s.agent.asked[0].target == "/v1/responses/"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_our_own_routes_are_never_the_agents(method: str) -> None:
    async with scene(answering("200 OK", b"")) as s:
        for path in ("/_respool/health", "/_respool/responses"):
            response = await s.client.request(method, path)
            assert response.status_code in (404, 405)
            assert error_of(response)
        assert s.agent.asked == []
