"""A running server as a source, through its own HTTP routes: what they do not show is said to be missing."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from respool.cli.inspect.trouble import NO_SERVER, WRONG_OPTIONS, Trouble
from respool.proxy.clock import now_ms
from respool.proxy.protocol.jsons import JsonObject, dumps, loads
from respool.proxy.protocol.sse import Decoder, encode
from respool.store.base import Chunk, Filter, Head, Key, NotFound
from respool.store.status import Status

DEFAULT_OWNER_HEADER = "x-agent-user-id"
_PAGE = 100
_LARGEST_EVENT = 1 << 30
_SETTLED_SECONDS = 1.0
"""A response under way that says nothing for so long has said what there is of it now."""


def owner_headers(owner: str | None) -> dict[str, str]:
    """The header that makes a caller this owner: HEADER=NAME as a log has it, or a name of the usual header."""
    if not owner:
        return {}
    header, equals, name = owner.partition("=")
    return {header: name} if equals and header.startswith("x-") else {DEFAULT_OWNER_HEADER: owner}


def _credentials() -> dict[str, str]:
    """A server that asks for keys gets RESPOOL_API_KEY, or the first key of the file that it has them from itself."""
    key = os.environ.get("RESPOOL_API_KEY", "")
    file = os.environ.get("RESPOOL_API_KEY_FILE")
    if not key and file:
        with suppress(OSError), open(file, encoding="utf-8") as lines:
            key = next((line.strip() for line in lines if line.strip()), "")
    return {"authorization": f"Bearer {key}"} if key else {}


class ServerSource:
    """See Source. `url` may end in a prefix such as /v1; everything is asked for as `owner`."""

    has_times = False

    def __init__(self, url: str, owner: str | None = None) -> None:
        parts = urlsplit(url)
        self._url = url
        self._own = f"{parts.scheme}://{parts.netloc}/_respool"
        self._client = httpx.AsyncClient(
            headers=owner_headers(owner) | _credentials(), timeout=httpx.Timeout(60, read=None), trust_env=False
        )

    async def list(self, which: Filter) -> Sequence[Head]:
        if which.texts:
            raise Trouble(WRONG_OPTIONS, "a server does not search its requests: look into the log itself with --store")
        after = which.older_than.id if which.older_than else which.after
        heads: list[Head] = []
        while len(heads) < which.limit:
            page = await self._page(which, after)
            entries = [entry for entry in page["data"] if isinstance(entry, dict)]
            heads += [head for head in map(_head, entries) if _fits(head, which)]
            if not page.get("has_more") or not entries or _is_too_old(entries[-1], which):
                break
            after = entries[-1]["id"]
        return heads[: which.limit]

    async def _page(self, which: Filter, after: str | None) -> JsonObject:
        given = {"conversation": which.conversation, "status": which.status, "after": after, "limit": _PAGE}
        query = {name: str(value) for name, value in given.items() if value is not None}
        answer = await self._ask("GET", f"{self._own}/responses", params=query)
        page = loads(answer.content)
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise Trouble(NO_SERVER, f"{self._url} answers, but it is no respool")
        return page

    async def head(self, key: Key) -> Head:
        return _head(await self.response(key))

    async def request(self, key: Key) -> bytes | None:
        return None

    async def input(self, key: Key) -> object:
        answer = await self._ask("GET", self._at(key, "/input_items"), params={"limit": "100", "order": "desc"})
        page = loads(answer.content)
        return page["data"][::-1] if isinstance(page, dict) and isinstance(page.get("data"), list) else []

    async def response(self, key: Key) -> JsonObject:
        value = loads((await self._ask("GET", self._at(key))).content)
        if not isinstance(value, dict) or "id" not in value:
            raise Trouble(NO_SERVER, f"{self._url} answers, but it is no respool")
        return value

    async def events(self, key: Key, after: int = -1, *, live: bool = False) -> AsyncIterator[Chunk]:
        query = {"stream": "true"} | ({"starting_after": str(after)} if after >= 0 else {})
        ended = Status((await self.response(key)).get("status", "completed")).ended
        wait = None if live or ended else _SETTLED_SECONDS
        decoder = Decoder(_LARGEST_EVENT, _LARGEST_EVENT)
        timeout = httpx.Timeout(60, read=wait)
        try:
            async with self._client.stream("GET", self._at(key), params=query, timeout=timeout) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    self._check(answer)
                async for piece in answer.aiter_raw():
                    frames = [encode(name, data) for name, data in decoder.feed(piece)]
                    if frames:
                        yield Chunk.of(after + 1, frames, now_ms())
                        after += len(frames)
        except httpx.ReadTimeout:
            return
        except httpx.TransportError as error:
            raise Trouble(NO_SERVER, f"the stream of {self._url} broke off: {_words(error)}") from None

    async def cancel(self, key: Key) -> JsonObject:
        """Cancel a response; what it then is. Raises NotFound, Trouble."""
        answer = await self._ask("POST", self._at(key, "/cancel"), headers=owner_headers(key.owner))
        value: JsonObject = loads(answer.content)
        return value

    async def delete(self, key: Key) -> None:
        """Delete a response. Raises NotFound, Trouble."""
        await self._ask("DELETE", self._at(key), headers=owner_headers(key.owner))

    async def close(self) -> None:
        await self._client.aclose()

    def _at(self, key: Key, below: str = "") -> str:
        return f"{self._url}/responses/{quote(key.id, safe='')}{below}"

    async def _ask(self, method: str, url: str, **given: Any) -> httpx.Response:
        try:
            answer = await self._client.request(method, url, **given)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            words = f"no server answers at {self._url} ({_words(error)}): is it running, is the URL right?"
            raise Trouble(NO_SERVER, words) from None
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        message = _message(answer)
        if "no such route" in message:
            words = f"{self._url} is the address for administrators, which lists and no more: say the one that serves"
            raise Trouble(NO_SERVER, words)
        if answer.status_code == 404:
            raise NotFound
        if answer.status_code == 401:
            raise Trouble(NO_SERVER, f"{self._url} asks for a key: set RESPOOL_API_KEY, or RESPOOL_API_KEY_FILE")
        if "conversation is required" in message:
            raise Trouble(
                NO_SERVER,
                "the server lists everybody's responses to administrators alone: say --user or --conversation, "
                "the URL of its --admin-listen, or --store",
            )
        raise Trouble(NO_SERVER, f"the server refused ({answer.status_code}): {message}")


def _message(answer: httpx.Response) -> str:
    try:
        error = loads(answer.content)["error"]
        return str(error["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _head(entry: Mapping[str, Any]) -> Head:
    """A response as the list or the object itself shows it: what they leave out is empty."""
    conversation = entry.get("conversation")
    ended_at = entry.get("completed_at")
    return Head(
        key=Key(str(entry.get("owner") or ""), str(entry.get("id"))),
        status=Status(entry.get("status", "completed")),
        background=bool(entry.get("background")),
        stream=bool(entry.get("stream")),
        created_at=int(entry.get("created_at") or 0),
        envelope=dumps(dict(entry)),
        conversation=conversation.get("id") if isinstance(conversation, dict) else conversation,
        previous_id=entry.get("previous_response_id"),
        last_seq=int(entry.get("sequence_number", -1)),
        ended_at_ms=int(ended_at) * 1_000 if isinstance(ended_at, int | float) else None,
    )


def _fits(head: Head, which: Filter) -> bool:
    return (
        head.key.id.startswith(which.prefix or "")
        and (which.since is None or head.created_at >= which.since)
        and (which.until is None or head.created_at <= which.until)
    )


def _is_too_old(entry: Mapping[str, Any], which: Filter) -> bool:
    return which.since is not None and int(entry.get("created_at") or 0) < which.since
