"""The stock OpenAI client, synchronous or asynchronous, behind one face: the synchronous one is called in a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response

MODEL = "test-model"


class Events:
    """A stream that the client has opened, event by event."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_async = hasattr(stream, "__aiter__")
        self._iterator = aiter(stream) if self._is_async else iter(stream)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._is_async:
            return await anext(self._iterator)
        event = await asyncio.to_thread(next, self._iterator, None)
        if event is None:
            raise StopAsyncIteration
        return event

    async def until(self, number: int) -> list[Any]:
        """The events up to the one of this number."""
        taken: list[Any] = []
        while not taken or taken[-1].sequence_number < number:
            taken.append(await anext(self))
        return taken

    async def rest(self) -> list[Any]:
        """All further events."""
        return [event async for event in self]

    async def close(self) -> None:
        if self._is_async:
            await self._stream.close()
        else:
            self._stream.close()


class Caller:
    """`client.responses`, without retries, so that nothing is mended behind the scenes."""

    def __init__(self, kind: Literal["sync", "async"], url: str) -> None:
        make: Any = OpenAI if kind == "sync" else AsyncOpenAI
        self._client = make(base_url=url, api_key="x", max_retries=0)
        self._responses = self._client.responses

    async def create(self, text: str, **options: Any) -> Response:
        response: Response = await self._call(self._responses.create, model=MODEL, input=text, **options)
        return response

    async def stream(self, text: str, **options: Any) -> Events:
        """create(stream=True)"""
        return Events(await self._call(self._responses.create, model=MODEL, input=text, stream=True, **options))

    async def retrieve(self, response_id: str) -> Response:
        response: Response = await self._call(self._responses.retrieve, response_id)
        return response

    async def resume(self, response_id: str, **options: Any) -> Events:
        """retrieve(stream=True)"""
        return Events(await self._call(self._responses.retrieve, response_id, stream=True, **options))

    async def cancel(self, response_id: str) -> Response:
        response: Response = await self._call(self._responses.cancel, response_id)
        return response

    async def delete(self, response_id: str) -> None:
        await self._call(self._responses.delete, response_id)

    async def input_items(self, response_id: str, **options: Any) -> list[Any]:
        """`for item in client.responses.input_items.list(id)`, which turns the pages itself."""
        listed = self._responses.input_items.list
        if isinstance(self._client, AsyncOpenAI):
            return [item async for item in listed(response_id, **options)]
        return await asyncio.to_thread(lambda: list(listed(response_id, **options)))

    async def strict(self, **options: Any) -> tuple[list[Any], Response]:
        """`with client.responses.stream(...)`: the events that the helper fires, and its final response."""
        if isinstance(self._client, AsyncOpenAI):
            async with self._responses.stream(**options) as helper:
                return [event async for event in helper], await helper.get_final_response()
        return await asyncio.to_thread(self._strictly, options)

    def _strictly(self, options: dict[str, Any]) -> tuple[list[Any], Response]:
        with self._responses.stream(**options) as helper:
            return list(helper), helper.get_final_response()

    async def close(self) -> None:
        await self._call(self._client.close)

    async def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if isinstance(self._client, AsyncOpenAI):
            return await function(*args, **options)
        return await asyncio.to_thread(function, *args, **options)


async def completed(caller: Caller, response_id: str) -> Response:
    """The response once a poll says that it has ended."""
    response = await caller.retrieve(response_id)
    while response.status in ("queued", "in_progress"):
        response = await caller.retrieve(response_id)
    return response


def deltas_of(events: list[Any]) -> str:
    """The text that the deltas make."""
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")
