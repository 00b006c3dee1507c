"""The keys of the operator: who has one uses respool's own routes, and nobody else."""

import hmac
import logging
import os
from pathlib import Path

import httpx
import pytest

from respool.proxy import keys
from respool.proxy.keys import Keys, UnusableKeys
from tests.proxy.agent import answer, answering, saying
from tests.proxy.client import error_of
from tests.proxy.scene import Scene, administration, scene

HELLO = saying(*answer("Hello"))
ID = "caresp_" + "k" * 50
GUARDED = [
    ("POST", "/responses"),
    ("POST", "/openai/v1/responses"),
    ("GET", f"/responses/{ID}"),
    ("HEAD", f"/responses/{ID}"),
    ("GET", f"/v1/responses/{ID}?stream=true"),
    ("DELETE", f"/responses/{ID}"),
    ("POST", f"/responses/{ID}/cancel"),
    ("GET", f"/responses/{ID}/input_items"),
    ("GET", "/_respool/responses?conversation=c"),
    ("GET", "/_respool/responses/"),
    ("GET", "/_respool/anything"),
    ("GET", "/_respool/health/"),
    ("GET", "/_respool//health"),
    ("GET", "/_respool/x/..%2Fhealth"),
]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# of the first team\nfirst-key\n\n  second-key  \r\n#third-key\n")
    path.chmod(0o600)
    return path


def put(path: Path, content: str) -> None:
    path.write_text(content)


async def may_read(s: Scene, headers: dict[str, str] | list[tuple[str, str]] | None) -> bool:
    """Whether a caller gets past the door: the id is unknown behind it."""
    response = await s.client.get(f"/responses/{ID}", headers=headers)
    assert response.status_code in (401, 404)
    return response.status_code == 404


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_every_route_of_ours_asks_for_a_key(key_file: Path, method: str, path: str) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        response = await s.client.request(method, path, json={"input": "hi"} if method == "POST" else None)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="respool"'
        assert response.headers["x-platform-error-source"] == "user"
        if method != "HEAD":
            assert error_of(response)["code"] == "invalid_api_key"
        assert s.agent.asked == []


@pytest.mark.parametrize("path", ["/_respool/health", "/_respool/ready"])
async def test_probes_of_the_platform_need_no_key(key_file: Path, path: str) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        assert (await s.client.get(path)).status_code == 200


async def test_what_passes_through_is_for_the_agent_to_guard(key_file: Path) -> None:
    async with scene(answering("200 OK", b"agent"), api_key_file=str(key_file)) as s:
        assert (await s.client.get("/readiness")).content == b"agent"
        assert (await s.client.get("/responses")).content == b"agent"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first-key"},
        {"authorization": "bearer  second-key"},
        {"AUTHORIZATION": "BEARER first-key"},
        {"api-key": "first-key"},
        {"Api-Key": "second-key"},
        {"api-key": "first-key", "authorization": "Bearer for-the-agent"},
        {"api-key": "for-the-agent", "authorization": "Bearer first-key"},
    ],
)
async def test_a_key_opens_in_either_header(key_file: Path, headers: dict[str, str]) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        assert await may_read(s, headers)
        assert (await s.create(headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer"},
        {"authorization": "first-key"},
        {"authorization": "Basic first-key"},
        {"authorization": "Bearer first-ke"},
        {"authorization": "Bearer first-key2"},
        {"authorization": "Bearer First-Key"},
        {"authorization": "Bearer first-key,second-key"},
        {"authorization": "Bearer #third-key"},
        {"authorization": "Bearer # of the first team"},
        {"api-key": ""},
        {"api-key": "third-key"},
        {"api-key": "Bearer first-key"},
        {"x-api-key": "first-key"},
        {"cookie": "api-key=first-key"},
    ],
)
async def test_nothing_but_a_key_opens(key_file: Path, headers: dict[str, str]) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        assert not await may_read(s, headers)


async def test_a_key_in_the_query_or_in_bytes_that_are_no_text_opens_nothing(key_file: Path) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        assert (await s.client.get(f"/responses/{ID}?api-key=first-key")).status_code == 401
        response = await s.client.get(f"/responses/{ID}", headers=[(b"api-key", b"first-key\xff")])
        assert response.status_code == 401


async def test_the_callers_headers_go_on_to_the_agent_as_they_came(key_file: Path) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        await s.create({"api-key": "first-key", "authorization": "Bearer for-the-agent"})
        assert s.agent.asked[0].header("authorization") == ["Bearer for-the-agent"]
        assert s.agent.asked[0].header("api-key") == ["first-key"]


async def test_the_administrators_port_asks_too(key_file: Path) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s, administration(s) as admin:
        assert (await admin.get("/_respool/responses")).status_code == 401
        assert (await admin.get("/_respool/responses", headers={"api-key": "first-key"})).status_code == 200
        assert (await admin.get("/_respool/health")).status_code == 200


async def test_who_is_turned_away_reads_why_behind_a_large_body_too(key_file: Path) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        response = await s.client.post("/responses", content=b"x" * 8 * 2**20)
        assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")


# --- the file


async def test_keys_change_with_their_file(key_file: Path) -> None:
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        assert await may_read(s, {"api-key": "first-key"})
        # Of the same length and at once, so that neither size nor time can be told from the old one.
        replaced = key_file.read_text().replace("first-key", "third-key")  # noqa: ASYNC240
        put(key_file, replaced)
        assert not await may_read(s, {"api-key": "first-key"})
        assert await may_read(s, {"api-key": "third-key"})
        other = key_file.with_name("other")
        put(other, "fourth-key")
        other.replace(key_file)
        assert not await may_read(s, {"api-key": "third-key"})
        assert await may_read(s, {"api-key": "fourth-key"})


async def test_keys_of_an_old_file_change_too(key_file: Path) -> None:
    os.utime(key_file, (1_000_000_000, 1_000_000_000))
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        assert await may_read(s, {"api-key": "first-key"})
        put(key_file, "third-key")
        assert not await may_read(s, {"api-key": "first-key"})
        assert await may_read(s, {"api-key": "third-key"})


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("# none\n")])
async def test_without_usable_keys_nobody_is_let_in_until_there_are_some_again(
    key_file: Path, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(spoil)
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        spoil(key_file)
        for headers in ({"api-key": "first-key"}, {}):
            response = await s.client.get(f"/responses/{ID}", headers=headers)
            assert (response.status_code, error_of(response)["code"]) == (503, "access_unknown")
        assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
        put(key_file, "first-key")
        assert await may_read(s, {"api-key": "first-key"})
    assert "first-key" not in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no key in it"),
        (b"\n# none\n\n", "has no key in it"),
        (b"good\nnot good\n", "line 2: a key is printable ASCII without spaces"),
        (b"k\xc3\xa9y\n", "line 1: a key is printable ASCII without spaces"),
        (b"x" * (2**20 + 1), "is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_of_no_use_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UnusableKeys) as refused:
        Keys(str(path))
    assert words in str(refused.value)
    assert "good" not in str(refused.value)


def test_what_is_no_file_is_refused_in_words(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "directory"),
        (tmp_path / "pipe", "not a file"),
    ):
        with pytest.raises(UnusableKeys, match=words):
            Keys(str(path))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_can_read_is_warned_of(
    key_file: Path, mode: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    key_file.chmod(mode)
    Keys(str(key_file))
    assert ("api_key_file_readable_by_everybody" in caplog.text) == warned


@pytest.mark.parametrize("key", ["first-key", "second-key", "none", "first-kez", "f"])
def test_every_key_is_compared_whichever_it_is(key_file: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    class Watched:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append((len(one), len(other)))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "hmac", Watched)
    Keys(str(key_file)).admit([(b"api-key", key.encode())])
    assert compared == [(32, 32)] * 2


async def test_the_client_of_the_openai_sdk_is_let_in_with_its_key(key_file: Path) -> None:
    openai = pytest.importorskip("openai")
    async with scene(HELLO, api_key_file=str(key_file)) as s:
        options = {"base_url": s.served.url, "http_client": httpx.AsyncClient(trust_env=False)}
        async with openai.AsyncOpenAI(api_key="first-key", **options) as client:
            response = await client.responses.create(model="m", input="hi")
            assert response.output_text == "Hello"
            with pytest.raises(openai.AuthenticationError):
                await client.with_options(api_key="wrong").responses.retrieve(response.id)
