"""Words for a task that waits."""

import asyncio

import pytest

from respool.proxy.ear import Ear, Heard


async def forever() -> None:
    await asyncio.Event().wait()


async def listening(ear: Ear[str]) -> "asyncio.Task[str]":
    """A task that listens while it waits for ever, and gives the word that it heard."""

    async def listen() -> str:
        with pytest.raises(Heard) as caught:
            await ear.listen(forever)
        return str(caught.value.word)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)
    return task


async def test_a_word_is_heard_while_the_task_waits() -> None:
    ear: Ear[str] = Ear()
    task = await listening(ear)
    ear.tell("go")
    assert await task == "go"


async def test_a_word_that_came_before_is_heard_at_once_and_nothing_is_waited_for() -> None:
    ear: Ear[str] = Ear()
    ear.tell("go")
    waited = False

    async def wait() -> None:
        nonlocal waited
        waited = True

    with pytest.raises(Heard):
        await ear.listen(wait)
    assert not waited
    await ear.listen(wait)
    assert waited


async def test_words_are_heard_one_by_one_in_order() -> None:
    ear: Ear[str] = Ear()
    task = await listening(ear)
    for word in ("one", "two", "three"):
        ear.tell(word)
    assert await task == "one"
    assert await (await listening(ear)) == "two"
    assert await (await listening(ear)) == "three"
    assert await ear.listen(lambda: asyncio.sleep(0, "quiet")) == "quiet"


async def test_what_is_waited_for_is_given_when_no_word_comes() -> None:
    ear: Ear[str] = Ear()
    assert await ear.listen(lambda: asyncio.sleep(0, 5)) == 5


async def test_an_error_of_what_is_waited_for_is_raised() -> None:
    ear: Ear[str] = Ear()

    async def fail() -> None:
        raise OSError("it failed")

    with pytest.raises(OSError, match="it failed"):
        await ear.listen(fail)


async def test_a_result_that_comes_in_spite_of_the_word_counts_and_the_word_is_heard_next() -> None:
    ear: Ear[str] = Ear()

    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "result"
        return "never"

    async def listen() -> tuple[str, str]:
        result = await ear.listen(stubborn)
        with pytest.raises(Heard) as caught:
            await ear.listen(forever)
        await asyncio.sleep(0)
        return result, str(caught.value.word)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)
    ear.tell("go")
    assert await task == ("result", "go")


async def test_a_task_that_is_cancelled_while_it_listens_is_cancelled() -> None:
    ear: Ear[str] = Ear()
    task = asyncio.create_task(ear.listen(forever))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_cancelled_and_told_at_once_is_cancelled_and_the_word_stays() -> None:
    ear: Ear[str] = Ear()
    task = asyncio.create_task(ear.listen(forever))
    await asyncio.sleep(0)
    ear.tell("go")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Heard):
        await ear.listen(forever)


async def test_a_word_does_not_end_a_timeout_around_it() -> None:
    ear: Ear[str] = Ear()

    async def listen() -> str:
        async with asyncio.timeout(600):
            with pytest.raises(Heard):
                await ear.listen(forever)
            await asyncio.sleep(0)
        return "went on"

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)
    ear.tell("go")
    assert await task == "went on"


async def test_a_timeout_inside_ends_what_is_waited_for_and_not_the_task() -> None:
    ear: Ear[str] = Ear()

    async def brief() -> None:
        async with asyncio.timeout(0):
            await forever()

    with pytest.raises(TimeoutError):
        await ear.listen(brief)
    assert await ear.listen(lambda: asyncio.sleep(0, "quiet")) == "quiet"


async def test_nobody_is_disturbed_where_no_one_listens() -> None:
    ear: Ear[str] = Ear()

    async def work() -> str:
        ear.tell("later")
        await asyncio.sleep(0)
        return "done"

    assert await asyncio.create_task(work()) == "done"
    with pytest.raises(Heard):
        await ear.listen(forever)


def test_only_a_task_can_listen() -> None:
    listening = Ear[str]().listen(forever)
    with pytest.raises(RuntimeError):
        listening.send(None)
    listening.close()
