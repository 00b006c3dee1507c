"""Clients of every kind at once, on one server, until it dies: what each of them saw is kept for the checker."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import openai

from tests.agents.launcher import Agent
from tests.checker import Json, Objects, Parsed, Stream, Transcript
from tests.recorder import Recorder, send

_MODEL = "test-model"
_TOKENS = 100_000
"""More than a run can be given before its server dies."""


@dataclass(slots=True)
class Subject:
    """One response and its clients; `id` is None until one of them has been told."""

    text: str
    background: bool
    stream: bool
    id: str | None = None
    transcripts: list[Transcript] = field(default_factory=list)

    @property
    def is_resumable(self) -> bool:
        return self.background and self.stream and self.id is not None

    def body(self) -> Json:
        return {"model": _MODEL, "input": self.text, "background": self.background, "stream": self.stream}

    def seen(self) -> int:
        """The number of the last event that anybody saw; -1 if there was none."""
        return max((last_seen(one) for one in self.transcripts if not isinstance(one, Objects)), default=-1)


def last_seen(stream: Stream | Parsed) -> int:
    """The cursor with which the client of a stream would go on."""
    events = stream.events()
    return int(events[-1]["sequence_number"]) if events else stream.after


class Traffic:
    """The clients of one server. `heavy` lets responses come and go that are large enough for checkpoints.

    A token of the long runs comes every `pace_seconds` or so.
    """

    def __init__(
        self,
        url: str,
        agent: Agent,
        library: openai.AsyncOpenAI,
        chance: random.Random,
        *,
        heavy: bool = False,
        pace_seconds: float = 0.015,
    ) -> None:
        self.subjects: list[Subject] = []
        self.answers: list[int] = []
        self._url = url
        self._agent = agent
        self._library = library
        self._chance = chance
        self._heavy = heavy
        self._pace_seconds = pace_seconds
        self._dead = asyncio.Event()

    async def until(self, death: Callable[[], Awaitable[object]]) -> None:
        """Everything at once; `death` returns when the server is dead, and is begun once a run is under way."""
        main = self._subject("gate", key := _key(), background=True, stream=True)
        posting = asyncio.create_task(self._post(main, key))
        while main.id is None and not posting.done():
            await asyncio.wait({posting}, timeout=0.005)
        dying = asyncio.create_task(self._die(death))
        clients = (
            self._hop(main),
            self._hop(main),
            self._follow(main),
            self._poll(main),
            self._cancel(),
            self._churn(),
        )
        await asyncio.gather(dying, posting, *clients)

    async def _die(self, death: Callable[[], Awaitable[object]]) -> None:
        await death()
        self._dead.set()

    def _subject(self, word: str, key: str, *, background: bool, stream: bool) -> Subject:
        number = {"gate": _TOKENS, "burst": 4, "big": 400}[word]
        subject = Subject(f"{word} {number} {key}", background, stream)
        self.subjects.append(subject)
        return subject

    async def _send(self, method: str, target: str, body: Json | None = None) -> Recorder | None:
        """None once the server is dead."""
        try:
            return await send(self._url, method, target, body)
        except OSError:
            await self._dead.wait()
            return None

    async def _post(self, subject: Subject, key: str = "") -> None:
        """Create, and read the answer as far as it comes. With a `key` tokens are released meanwhile."""
        recorder = await self._send("POST", "/responses", subject.body())
        if recorder is None:
            return
        feeding = asyncio.create_task(self._feed(key)) if key else None
        if subject.stream:
            await recorder.until(1)
            if first := Stream("", received=bytes(recorder.body)).events():
                subject.id = first[0]["response"]["id"]
        await recorder.end()
        self._keep(subject, "POST", -1, recorder)
        if feeding is not None:
            feeding.cancel()
            # A run of the agent that nobody reads notices so at its next words; until then it looks for its gate.
            self._agent.release(key, 10)

    def _keep(self, subject: Subject, who: str, after: int, recorder: Recorder) -> None:
        """What was read is a transcript, be it whole or torn."""
        self._answered(recorder)
        if recorder.http_status != 200:
            return
        if subject.stream:
            subject.transcripts.append(Stream(who, after, bytes(recorder.body), recorder.whole))
        elif recorder.whole:
            subject.id = recorder.json()["id"]
            subject.transcripts.append(Objects(who, [recorder.json()]))

    def _answered(self, recorder: Recorder) -> None:
        if recorder.http_status:
            self.answers.append(recorder.http_status)

    async def _feed(self, key: str) -> None:
        while not self._dead.is_set():
            self._agent.release(key, self._chance.choice((1, 1, 1, 2, 5)))
            await self._pause(2 * self._pace_seconds)

    async def _pause(self, most_seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._chance.uniform(0, most_seconds)):
                await self._dead.wait()

    async def _hop(self, subject: Subject) -> None:
        """A reader whose connection breaks again and again, and who goes on where it was; sometimes from the start."""
        after = self._chance.randint(-1, 3)
        while not self._dead.is_set():
            recorder = await self._send("GET", f"/responses/{subject.id}?stream=true&starting_after={after}")
            if recorder is None:
                return
            await recorder.until(self._chance.randint(1, 20))
            recorder.cut()
            self._keep(subject, "a reader that hops", after, recorder)
            after = -1 if self._chance.random() < 0.1 else last_seen(Stream("", after, bytes(recorder.body)))

    async def _follow(self, subject: Subject) -> None:
        """The OpenAI client on the whole stream."""
        parsed = Parsed("the OpenAI client", self._chance.randint(-1, 3))
        subject.transcripts.append(parsed)
        await read_with(self._library, subject, parsed)

    async def _poll(self, subject: Subject) -> None:
        polls = Objects("a poller")
        subject.transcripts.append(polls)
        while not self._dead.is_set():
            recorder = await self._send("GET", f"/responses/{subject.id}")
            if recorder is None:
                return
            await recorder.end()
            self._answered(recorder)
            if recorder.whole:
                polls.received.append(recorder.json())
            await self._pause(0.05)

    async def _cancel(self) -> None:
        """Runs that are cancelled after a while, one after the other."""
        posted = []
        while not self._dead.is_set():
            subject = self._subject("gate", key := _key(), background=True, stream=True)
            posting = asyncio.create_task(self._post(subject, key))
            while subject.id is None and not posting.done():
                await asyncio.wait({posting}, timeout=0.005)
            await self._pause(0.2)
            if subject.id is not None and (recorder := await self._send("POST", f"/responses/{subject.id}/cancel")):
                await recorder.end()
                self._answered(recorder)
                if recorder.whole:
                    subject.transcripts.append(Objects("who cancels", [recorder.json()]))
            posted.append(posting)
            await self._pause(0.1)
        await asyncio.gather(*posted)

    async def _churn(self) -> None:
        """Short responses of all kinds, one after the other."""
        while not self._dead.is_set():
            word = "big" if self._heavy else "burst"
            kind = {"background": self._chance.random() < 0.5, "stream": self._chance.random() < 0.5}
            await self._post(self._subject(word, _key(), **kind))
            await self._pause(0.05)


async def read_with(library: openai.AsyncOpenAI, subject: Subject, parsed: Parsed) -> None:
    """The stream behind the cursor of `parsed`, to its end or to where it breaks."""
    assert subject.id is not None
    with suppress(openai.APIConnectionError, httpx.TransportError):
        stream = await library.responses.retrieve(subject.id, stream=True, starting_after=parsed.after)
        async for event in stream:
            parsed.received.append(event.to_dict())
        parsed.whole = True


def _key() -> str:
    return "key" + uuid.uuid4().hex
