"""The orders that a test gives to a test agent in its input, and the words with which an agent carries them out."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.agents.control import Gate, directory

# What trips whoever splits lines by anything but LF, or looks for fields inside of data.
UNICODE = ("h\u00e9llo ", "\U0001f600 ", "line1\nline2\r\n", "\u2028\u2029\x85 ", "data: x\n\ndata: y")


@dataclass(frozen=True, slots=True)
class Command:
    """The input's text, read as an order: `word number key`, of which only the word must be there."""

    word: str
    number: float
    key: str

    def count(self, default: int) -> int:
        return default if self.number < 0 else int(self.number)

    def seconds(self, default: float) -> float:
        return default if self.number < 0 else self.number


def parse(text: str) -> Command:
    """`gate 20 KEY`, `drain KEY`, `slow 5`, `hello`: a number that is not given reads as -1."""
    word, *rest = text.split() or ["hello"]
    number = float(rest.pop(0)) if rest and rest[0].replace(".", "", 1).isdigit() else -1
    return Command(word, number, rest[0] if rest else "")


async def words_of(command: Command, greeting: str) -> AsyncIterator[str]:
    """slow N, nocancel N, gate N KEY, gap SECONDS, burst N, big KILOBYTES, unicode, empty; all else is the greeting."""
    match command.word:
        case "slow" | "nocancel":
            for i in range(command.count(20)):
                await asyncio.sleep(0.5)
                yield f"tok{i} "
        case "gate":
            for i in range(command.count(5)):
                await Gate(directory(), command.key).passed(i)
                yield f"tok{i} "
        case "gap":
            yield "before "
            await asyncio.sleep(command.seconds(20))
            yield "after"
        case "burst":
            for i in range(command.count(100)):
                yield f"tok{i} "
        case "big":
            yield "A" * (command.count(200) * 1024)
        case "unicode":
            for text in UNICODE:
                yield text
        case "empty":
            yield ""
        case _:
            for word in greeting.split():
                yield word + " "
