"""`Last-Event-ID` and `id` lines: what an `EventSource` needs in order to come back by itself, and to stop."""

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
from contextlib import suppress
from typing import Any

import pytest

from tests.proxy.agent import Held, answer, delta, opening, saying
from tests.proxy.client import dial, error_of, events_of, posting, whole
from tests.proxy.scene import BACKGROUND, Scene, scene
from tests.raw_server import Peer, Script, raw_server

HELLO = saying(*answer("Hel", "lo"))
LAST = len(answer("Hel", "lo")) - 1
WITH_IDS = {"accept": "text/event-stream"}
_ID = re.compile(rb"^id: (\d+)\n", re.MULTILINE)


def without_ids(body: bytes) -> tuple[list[int], bytes]:
    """The numbers in the `id` lines, and the stream without them."""
    return [int(number) for number in _ID.findall(body)], _ID.sub(b"", body)


async def ended(s: Scene) -> tuple[str, bytes]:
    """The path of a response that has ended, and its whole stream."""
    body = (await s.create(**BACKGROUND)).content
    return f"/responses/{whole(events_of(body))['id']}", body


# --- id lines


@pytest.mark.parametrize(
    "headers",
    [
        WITH_IDS,
        {"accept": "TEXT/Event-Stream; charset=utf-8"},
        {"accept": "application/json, text/event-stream;q=0.5"},
        {"last-event-id": "-1"},
    ],
)
async def test_a_client_that_speaks_of_event_streams_gets_the_number_of_each_event_as_its_id(
    headers: dict[str, str],
) -> None:
    async with scene(HELLO) as s:
        posted = await s.create(headers, **BACKGROUND)
        numbers, body = without_ids(posted.content)
        assert numbers == [event.data["sequence_number"] for event in events_of(body)] == list(range(LAST + 1))
        path = f"/responses/{whole(events_of(body))['id']}"
        replayed = await s.client.get(path, params={"stream": "true"}, headers=headers)
        assert replayed.content == posted.content
        plain = await s.client.get(path, params={"stream": "true"})
        assert plain.content == body


@pytest.mark.parametrize("headers", [{}, {"accept": "application/json"}, {"accept": "*/*"}, {"last-event-id": ""}])
async def test_any_other_client_gets_no_id_lines(headers: dict[str, str]) -> None:
    async with scene(HELLO) as s:
        body = (await s.create(headers, **BACKGROUND)).content
        assert without_ids(body)[0] == []
        response = await s.client.get(
            f"/responses/{whole(events_of(body))['id']}", params={"stream": "true"}, headers=headers
        )
        assert response.content == body


async def test_id_lines_go_together_with_leaving_the_obfuscation_out() -> None:
    padded = {**delta("x"), "obfuscation": "####"}
    async with scene(saying(*opening(), padded, *answer("x")[5:])) as s:
        path, body = await ended(s)
        query = {"stream": "true", "include_obfuscation": "false", "starting_after": "3"}
        shown = await s.client.get(path, params=query, headers=WITH_IDS)
        numbers, rest = without_ids(shown.content)
        assert numbers == list(range(4, 9))
        assert b"obfuscation" in body
        assert b"obfuscation" not in rest
        assert [event.data["sequence_number"] for event in events_of(rest)] == numbers


# --- the header as a cursor


@pytest.mark.parametrize(
    ("query", "header", "first"),
    [
        (None, "-1", 0),
        (None, "-5", 0),
        (None, "0", 1),
        (None, "+3", 4),
        (None, str(LAST - 1), LAST),
        ("2", "5", 6),
        ("5", "2", 6),
        ("5", "-1", 6),
        ("-1", "5", 6),
        (None, str(LAST), None),
        (None, str(LAST + 1), None),
        (None, str(2**63), None),
        (None, str(2**200), None),
        (None, "7" * 5000, None),
        (str(LAST), "0", None),
    ],
)
async def test_the_greater_of_both_cursors_counts_and_behind_the_end_there_is_no_content(
    query: str | None, header: str, first: int | None
) -> None:
    async with scene(HELLO) as s:
        path, body = await ended(s)
        params = {"stream": "true"} | ({"starting_after": query} if query is not None else {})
        response = await s.client.get(path, params=params, headers={"last-event-id": header})
        if first is None:
            assert (response.status_code, response.content) == (204, b"")
            assert not {"content-type", "content-length", "transfer-encoding"} & set(response.headers)
            assert response.headers["x-request-id"]
        else:
            assert response.status_code == 200
            assert events_of(without_ids(response.content)[1]) == events_of(body)[first:]


async def test_a_cursor_in_the_query_alone_is_answered_with_an_empty_stream_behind_the_end() -> None:
    async with scene(HELLO) as s:
        path, _ = await ended(s)
        response = await s.client.get(path, params={"stream": "true", "starting_after": str(LAST)}, headers=WITH_IDS)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("header", ["abc", "1.5", "0x1", "1e3"])
async def test_a_header_that_is_no_integer_is_refused_and_not_taken_for_the_beginning(header: str) -> None:
    async with scene(HELLO) as s:
        path, _ = await ended(s)
        for where in (path, "/responses/caresp_" + "u" * 50):
            response = await s.client.get(where, params={"stream": "true"}, headers={"last-event-id": header})
            error = error_of(response)
            assert (response.status_code, error["param"]) == (400, "Last-Event-ID")
            assert error["message"] == "Last-Event-ID must be an integer"


async def test_the_header_means_nothing_to_a_poll_nor_to_a_new_run() -> None:
    async with scene(HELLO) as s:
        path, _ = await ended(s)
        for header in ("5", "abc"):
            assert (await s.client.get(path, headers={"last-event-id": header})).json()["status"] == "completed"
            posted = await s.create({"last-event-id": header}, **BACKGROUND)
            assert whole(events_of(without_ids(posted.content)[1]))["status"] == "completed"


async def test_the_header_over_a_raw_socket_resumes_a_run_that_is_live() -> None:
    held = Held()
    async with scene(held) as s:
        response_id = await s.created()
        async with dial(s.served.url) as raw:
            await raw.send(
                f"GET /responses/{response_id}?stream=true&starting_after=0 HTTP/1.1\r\nhost: x\r\n"
                "LAST-EVENT-ID: 3\r\nconnection: close\r\n\r\n".encode()
            )
            assert (await raw.head()).startswith(b"HTTP/1.1 200")
            held.going_on.set()
            body = await raw.rest()
        assert without_ids(body)[0] == list(range(4, LAST + 1))


async def test_a_comment_of_keep_alive_has_no_id() -> None:
    held = Held()
    async with scene(held, keep_alive_seconds=0.01) as s, dial(s.served.url) as raw:
        await raw.send(posting("/responses", {"input": "hi", "stream": True}, "accept: text/event-stream"))
        got = b""
        while got.count(b": keep-alive") < 2:
            got += await raw.receive(1)
        assert b"id: 4\nevent: " in got
        assert b"\n\n\r\n" in got
        held.going_on.set()


# --- an EventSource as browsers have it

_CLIENT = """
const names = process.argv[2].split(","), source = new EventSource(process.argv[1]);
const tell = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
for (const name of names) source.addEventListener(name, (e) => tell([e.type, e.lastEventId, JSON.parse(e.data)]));
setInterval(() => {}, 1000);
source.onerror = () => { if (source.readyState === EventSource.CLOSED) { tell("closed"); process.exit(0); } };
"""


_WHOLE = b"\r\n0\r\n\r\n"


def node() -> str:
    """A node that has `EventSource`; without one the test is skipped, and fails where CI is set."""
    path = shutil.which("node")
    found = (
        path and not subprocess.run([path, "--experimental-eventsource", "-e", "EventSource"], check=False).returncode
    )
    if path and found:
        return path
    assert not os.environ.get("CI"), "the tests of EventSource need node 20 or newer"
    pytest.skip("no node with EventSource")


def cutting(url: str, pieces: random.Random, cursors: list[str]) -> Script:
    """A script between a client and respool that lets a few events through and then breaks the connection.

    `cursors` takes what each request asked for in Last-Event-ID. A client is told to come back at once. Behind a whole
    answer the connection stays, because the next request may be on its way on it.
    """

    async def script(client: Peer) -> None:
        with suppress(ConnectionError, EOFError):
            while await is_whole(client):
                pass

    async def is_whole(client: Peer) -> bool:
        head = await client.head()
        cursors.extend(re.findall(r"last-event-id: (.*?)\r\n", head.decode(), re.IGNORECASE) or [""])
        async with dial(url) as server:
            await server.send(head)
            answered = await server.head()
            await client.send(answered)
            if answered.startswith(b"HTTP/1.1 204"):
                return True
            await client.send(b"9\r\nretry: 1\n\r\n")
            passed, limit = b"", pieces.randint(1, 4)
            while passed.count(b"\n\n") < limit and not passed.endswith(_WHOLE):
                passed += (piece := await server.receive(1))
                await client.send(piece)
            return passed.endswith(_WHOLE)

    return script


async def test_a_real_event_source_gets_every_event_once_over_many_breaks_and_stops_at_the_end() -> None:
    executable, seed = node(), random.randrange(2**32)
    print("seed", seed)
    events = answer(*"a stream that breaks again and again")
    async with scene(saying(*events)) as s:
        path, body = await ended(s)
        cursors: list[str] = []
        async with raw_server(cutting(s.served.url, random.Random(seed), cursors)) as between:
            names = ",".join(sorted({event.name for event in events_of(body)}))
            source = await asyncio.create_subprocess_exec(
                *(executable, "--experimental-eventsource", "-e", _CLIENT, f"{between}{path}?stream=true", names),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            said, _ = await source.communicate()
        *got, last = (json.loads(line) for line in said.splitlines())
        assert last == "closed"
        expected: list[Any] = [[e.name, str(e.data["sequence_number"]), e.data] for e in events_of(body)]
        assert got == expected
        assert len(cursors) > 5
        assert cursors[0] == ""
        assert cursors[-1] == str(len(expected) - 1)
