"""What a request leaves in memory when it is over, however it ended: nothing that waits for the garbage collector.

The collector looks at a process that serves but seldom, and until then each of them would hold its body.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.proxy.agent import HELLO, Script, Wire, answering, beginning, saying
from tests.proxy.place import MIB, Place, place

SIZE = 4 * MIB
REQUESTS = 16
MOST = 8
"""Times the body: what so many requests may take, one after the other."""

BODY = {"model": "m", "input": "x" * SIZE}
STREAMED = {**BODY, "stream": True}

Ask = Callable[[Place], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """POST of `content`, which is answered with `status`."""

    content: bytes
    status: int
    path: str = "/responses"
    key: str | None = None

    async def __call__(self, here: Place) -> None:
        headers = {"content-type": "application/json", **({"idempotency-key": self.key} if self.key else {})}
        response = await here.client.post(self.path, content=self.content, headers=headers)
        assert response.status_code == self.status, response.text


def posting(body: object, status: int, **other: str) -> Request:
    return Request(json.dumps(body).encode(), status, **other)


async def leaving(here: Place) -> None:
    """A client that leaves when it has heard something."""
    async with here.client.stream("POST", "/responses", json=STREAMED) as response:
        await anext(response.aiter_raw())


async def leaving_the_upload(here: Place) -> None:
    """A client that leaves before its body is whole."""

    async def half() -> AsyncIterator[bytes]:
        yield b"x" * (SIZE // 2)
        raise ConnectionError

    with suppress(ConnectionError):
        await here.client.post("/responses", content=half(), headers={"content-length": str(SIZE)})


async def cutting(wire: Wire) -> None:
    await wire.request()


async def talking_nonsense(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 nonsense\r\n\r\n")


async def falling_silent(wire: Wire) -> None:
    await beginning(wire)
    await wire.gone()


CASES: dict[str, tuple[Script, Ask]] = {
    "streamed": (saying(*HELLO), posting(STREAMED, 200)),
    "whole": (saying(*HELLO), posting(BODY, 200)),
    "malformed": (saying(*HELLO), Request(json.dumps(BODY).encode() + b",", 400)),
    "behind nothing": (saying(*HELLO), posting({**BODY, "previous_response_id": "caresp_none"}, 400)),
    "again behind nothing": (
        saying(*HELLO),
        posting({**BODY, "previous_response_id": "caresp_none"}, 400, key="k"),
    ),
    "asked again": (saying(*HELLO), posting(BODY, 200, key="k")),
    "refused by the agent": (answering("400 Bad Request", b'{"error": {"message": "no"}}'), posting(BODY, 400)),
    "cut before the answer": (cutting, posting(BODY, 502)),
    "cut in the answer": (beginning, posting(BODY, 200)),
    "stream cut": (beginning, posting(STREAMED, 200)),
    "nonsense": (talking_nonsense, posting(STREAMED, 502)),
    "left": (falling_silent, leaving),
    "left in the upload": (saying(*HELLO), leaving_the_upload),
    "passed through": (answering("200 OK", b"{}"), posting(BODY, 200, path="/other")),
    "cut in passing": (cutting, posting(BODY, 502, path="/other")),
}


@pytest.mark.parametrize("case", CASES)
async def test_requests_leave_nothing_behind(case: str, tmp_path: Path) -> None:
    script, ask = CASES[case]
    async with place(script, tmp_path) as here:
        await ask(here)
        with here.at_most(MOST * SIZE):
            for _ in range(REQUESTS):
                await ask(here)
