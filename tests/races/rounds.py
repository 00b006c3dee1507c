"""One round: a response, and everybody who asks something of it at random moments; and what must be true afterwards."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field

from respool.store.base import Key
from tests.checker import Logged, Objects, Stream, Transcript, faults
from tests.recorder import Recorder, send

_SPAN_SECONDS = 0.05
MODES: tuple[Mapping[str, bool], ...] = (
    {},
    {"stream": True},
    {"background": True},
    {"background": True, "stream": True},
)


@dataclass(slots=True)
class Round:
    """A response under a chosen id, and what its clients were told. `seed` decides all that is random in it."""

    url: str
    seed: int
    transcripts: list[Transcript] = field(default_factory=list)
    posts: list[Recorder] = field(default_factory=list)
    cancels: list[Recorder] = field(default_factory=list)
    deletes: list[Recorder] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def id(self) -> str:
        return f"caresp_{self.seed:050}"

    async def run(self) -> None:
        """Everybody at once; returns when all of them have their answer, or have gone."""
        chance = random.Random(self.seed)
        mode = chance.choice((*MODES, MODES[-1], MODES[-2]))
        clients: list[Awaitable[None]] = [self._post(chance.random(), mode)]
        may_delete = chance.random() < 0.5
        if not may_delete and chance.random() < 0.3:
            clients.append(self._post(chance.random(), mode))
        clients += [self._cancel(chance.random()) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
        clients += [self._delete(chance.random()) for _ in range(may_delete * chance.randint(1, 2))]
        clients += [self._follow(chance.random()) for _ in range(chance.randint(0, 3))]
        clients += [self._poll(chance.random()) for _ in range(chance.randint(0, 2))]
        await asyncio.gather(*clients)

    async def _post(self, drawn: float, mode: Mapping[str, bool]) -> None:
        chance = await self._moment("post", drawn, span=0.0 if not self.posts else _SPAN_SECONDS)
        body = {"model": "m", "input": str(self.seed), **mode}
        answer = await send(self.url, "POST", "/responses", body, {"x-agent-response-id": self.id})
        self.posts.append(answer)
        if chance.random() < 0.3:
            await self._leave(answer, chance)
        await answer.end()
        if mode.get("stream"):
            self._saw_stream("POST", -1, answer)
        else:
            self._saw_object("POST", answer)

    async def _follow(self, drawn: float) -> None:
        chance = await self._moment("follow", drawn)
        after = chance.choice((-1, -1, 0, 1, 3, 8, 100))
        answer = await send(self.url, "GET", f"/responses/{self.id}?stream=true&starting_after={after}")
        if chance.random() < 0.3:
            await self._leave(answer, chance)
        await answer.end()
        self._saw_stream("replay", after, answer)

    async def _leave(self, answer: Recorder, chance: random.Random) -> None:
        with_events = asyncio.create_task(answer.until(chance.randint(1, 8)))
        await asyncio.wait({with_events}, timeout=chance.random() * _SPAN_SECONDS)
        with_events.cancel()
        answer.cut()

    async def _poll(self, drawn: float) -> None:
        chance = await self._moment("poll", drawn)
        seen = Objects("poll")
        self.transcripts.append(seen)
        for _ in range(chance.randint(1, 5)):
            answer = await send(self.url, "GET", f"/responses/{self.id}")
            await answer.end()
            if answer.http_status == 200:
                seen.received.append(answer.json())

    async def _cancel(self, drawn: float) -> None:
        await self._moment("cancel", drawn, 2 * _SPAN_SECONDS)
        answer = await send(self.url, "POST", f"/responses/{self.id}/cancel")
        self.cancels.append(answer)
        await answer.end()
        self._saw_object("cancel", answer)

    async def _delete(self, drawn: float) -> None:
        chance = await self._moment("delete", drawn)
        for _ in range(chance.randint(1, 12)):
            answer = await send(self.url, "DELETE", f"/responses/{self.id}")
            self.deletes.append(answer)
            await answer.end()
            if answer.http_status == 200:
                return
            await asyncio.sleep(chance.random() * _SPAN_SECONDS / 5)

    async def _moment(self, what: str, drawn: float, span: float = _SPAN_SECONDS) -> random.Random:
        self.asked[what] += 1
        await asyncio.sleep(drawn * span)
        return random.Random(drawn)

    def _saw_stream(self, who: str, after: int, answer: Recorder) -> None:
        if answer.http_status == 200:
            self.transcripts.append(Stream(who, after, bytes(answer.body), whole=answer.whole))

    def _saw_object(self, who: str, answer: Recorder) -> None:
        if answer.http_status == 200 and answer.whole:
            self.transcripts.append(Objects(who, [answer.json()]))

    # What must be true

    def wrong(self, log: Mapping[Key, Logged], calls: int) -> list[str]:
        """Every broken promise, once nothing goes on any more; `log` is what is left, `calls` those of the agent."""
        logged = log.get(Key("", self.id))
        found = [fault.words for fault in faults(logged, self.transcripts)]
        if logged is not None and not logged.status.ended:
            found.append(f"it is left {logged.status}")
        deleted = [answer.http_status for answer in self.deletes].count(200)
        if deleted > 1 or (deleted and logged is not None):
            found.append(f"it was deleted {deleted} times, and is {logged and logged.status}")
        answers = [answer for answer in (*self.posts, *self.cancels, *self.deletes) if answer.whole]
        if strange := [answer.http_status for answer in answers if _is_strange(answer)]:
            found.append(f"somebody was told {strange}")
        found += self._wrong_cancels(logged)
        # A record that was withdrawn leaves its id to the second POST.
        if calls > max(1, len(self.posts) if logged is None or self._was_refused() else 1):
            found.append(f"the agent was called {calls} times")
        return [f"round {self.seed}: {words}" for words in found]

    def _was_refused(self) -> bool:
        return any(answer.http_status in (0, 500, 503) for answer in self.posts)

    def _wrong_cancels(self, logged: Logged | None) -> list[str]:
        found = []
        for answer in self.cancels:
            if not answer.whole:
                found.append("a cancel was not answered")
            elif answer.http_status == 200 and answer.json()["status"] != "cancelled":
                found.append(f"a cancel was answered with {answer.json()['status']}")
            elif answer.http_status == 200 and logged is not None and logged.status != "cancelled":
                found.append(f"a cancel was answered, and it is {logged.status}")
            elif answer.http_status == 400 and logged is not None and logged.status not in answer.body.decode():
                words = answer.json()["error"]["message"]
                if "synchronous" not in words and "terminal state" not in words:
                    found.append(f"a cancel was told {words!r}, and it is {logged.status}")
        return found


def _is_strange(answer: Recorder) -> bool:
    """No answer that these requests can have; a 500 is that of an agent which broke off before its first event."""
    if answer.http_status == 500:
        return bool(answer.json()["error"]["code"] != "upstream_disconnected")
    return answer.http_status not in (200, 400, 404, 409, 503)
