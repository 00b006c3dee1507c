"""A real agent, respool in front of it, and the stock OpenAI client: a stream is cut and resumed before your eyes.

Run it with `make demo`. It needs no key, and no network but the package registry on first use. It checks everything
that it says, and ends with code 1 where respool did not do as promised, with 2 where it could not be shown at all.
"""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from openai import DefaultHttpxClient, OpenAI, OpenAIError
from openai.types.responses import Response, ResponseStreamEvent
from rich.console import Console
from rich.rule import Rule

from examples import environments

AGENT = Path(__file__).resolve().parent / "core_agent"
CUT_AFTER = 30

console = Console(highlight=False)


class NotAsPromised(Exception):
    """respool did something else than the demonstration says it does."""


@dataclass(slots=True)
class Reading:
    """What one client has seen of one stream."""

    id: str = ""
    numbers: list[int] = field(default_factory=list)
    text: str = ""
    end: Response | None = None

    def take(self, event: ResponseStreamEvent) -> str:
        """Add an event, and give the text that it brought."""
        self.numbers.append(event.sequence_number)
        match event.type:
            case "response.created":
                self.id = event.response.id
            case "response.completed" | "response.failed" | "response.incomplete":
                self.end = event.response
            case "response.output_text.delta":
                self.text += event.delta
                return event.delta
        return ""


def step(title: str, *lines: str) -> None:
    console.print()
    console.print(Rule(title, align="left", style="cyan"))
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def check(claim: str, holds: bool) -> None:
    if not holds:
        raise NotAsPromised(claim)
    console.print("ok: " + claim, style="green", markup=False)


def show(events: Iterable[ResponseStreamEvent], reading: Reading, style: str) -> Iterator[int]:
    """Print the text of a stream as it comes, and yield the number of each event."""
    for event in events:
        console.print(reading.take(event), end="", style=style, markup=False, soft_wrap=True)
        yield event.sequence_number
    console.print()


@contextmanager
def served(directory: Path) -> Iterator[environments.Server]:
    """respool, and the agent behind it, as processes of their own, which end with this block."""
    step("An agent", "azure-ai-agentserver-core 1.0.0b16, unmodified: it streams, and forgets.")
    if not environments.made(AGENT / "requirements.txt", "core"):
        console.print("It gets an environment of its own; this once, that takes about a minute ...")
    python = environments.python_with(AGENT / "requirements.txt", "core")
    agent = environments.start_agent(python, [str(AGENT / "agent.py")], directory / "agent.log")
    try:
        console.print(f"It listens at {agent.url}.")
        respool = start_respool(agent.url, directory)
        try:
            yield respool
        finally:
            respool.stop()
    finally:
        agent.stop()


def start_respool(upstream: str, directory: Path) -> environments.Server:
    port = environments.free_port()
    command = [
        *(str(Path(sys.executable).with_name("respool")), "serve"),
        *("--upstream", upstream),
        *("--listen", f"127.0.0.1:{port}"),
        *("--store", f"sqlite:///{directory / 'respool.db'}"),
    ]
    step("respool in front of it", "$ " + " ".join(["respool", *command[1:]]))
    return environments.start(command, port, ready="/_respool/health", log=directory / "respool.log")


def cut_and_resume(client: OpenAI) -> None:
    reading = cut(client)
    poll(client, reading)
    prefix = reading.text
    first_cursor = reading.numbers[-1]
    other = resume(client, reading)
    step("Nothing lost, nothing twice")
    check(
        f"before the cut 0 .. {first_cursor}, after it {first_cursor + 1} .. {reading.numbers[-1]}: no hole, no repeat",
        reading.numbers == list(range(len(reading.numbers))),
    )
    check("the second reader saw the same events", other.numbers == reading.numbers and other.text == reading.text)
    final = client.responses.retrieve(reading.id)
    check(f"the final object is {final.status}", final.status == "completed")
    check(
        f"its text, {len(final.output_text)} characters, is the {len(prefix)} before the cut and the rest after it",
        final.output_text == reading.text and len(reading.text) > len(prefix) > 0,
    )


def cut(client: OpenAI) -> Reading:
    step(
        "A background stream, cut in the middle",
        "client.responses.create(input='Tell me a story', background=True, stream=True)",
        f"The connection is closed after event {CUT_AFTER}.",
        "",
    )
    reading = Reading()
    stream = client.responses.create(model="story", input="Tell me a story", background=True, stream=True)
    for number in show(stream, reading, "yellow"):
        if number == CUT_AFTER:
            break
    stream.close()
    console.print("\n-- cut --", style="bold red")
    check("the client knows the response's id and its own cursor", bool(reading.id) and reading.end is None)
    return reading


def poll(client: OpenAI, reading: Reading) -> None:
    step("Nobody is reading, and the run goes on", f"client.responses.retrieve('{reading.id}')")
    polled = client.responses.retrieve(reading.id)
    while polled.status == "in_progress" and len(polled.output_text) <= len(reading.text):
        time.sleep(0.1)
        polled = client.responses.retrieve(reading.id)
    check(f"a poll says {polled.status}", polled.status == "in_progress")
    check(
        f"and has the text so far: {len(polled.output_text)} characters, where the client had {len(reading.text)}",
        polled.output_text.startswith(reading.text),
    )


def resume(client: OpenAI, reading: Reading) -> Reading:
    """Read on from the cursor, while a second reader reads everything; what the second one saw."""
    cursor = reading.numbers[-1]
    step(
        "Resumed from the cursor, with a second reader at the same time",
        f"client.responses.retrieve(id, stream=True, starting_after={cursor})",
        "",
    )
    with ThreadPoolExecutor() as second_tab:
        other = second_tab.submit(read_all, client, reading.id)
        rest = client.responses.retrieve(reading.id, stream=True, starting_after=cursor)
        for _ in show(rest, reading, "green"):
            pass
        return other.result()


def read_all(client: OpenAI, response_id: str) -> Reading:
    reading = Reading()
    for event in client.responses.retrieve(response_id, stream=True):
        reading.take(event)
    return reading


def cancel(client: OpenAI) -> None:
    step("A run that is cancelled", "client.responses.cancel(id), while the stream is open", "")
    reading = Reading()
    answered: Response | None = None
    stream = client.responses.create(model="story", input="slow, please", background=True, stream=True)
    for _ in show(stream, reading, "yellow"):
        if answered is None and len(reading.text.split()) == 4:
            answered = client.responses.cancel(reading.id)
    check("the cancel answers with a cancelled response", answered is not None and answered.status == "cancelled")
    check("the open stream ends, and says so", reading.end is not None and reading.end.status == "cancelled")
    kept = client.responses.retrieve(reading.id)
    check(f"what had been said is kept: {kept.output_text!r}", bool(reading.text) and kept.output_text == reading.text)


def main() -> int:
    directory = Path(tempfile.mkdtemp(prefix="respool-demo-"))
    try:
        with served(directory) as respool:
            with client_of(respool.url) as client:
                cut_and_resume(client)
                cancel(client)
            step("The end")
            check("respool ends with code 0 when it is asked to", respool.stop(grace_seconds=30) == 0)
    except (NotAsPromised, OpenAIError) as broken:
        return fail(1, f"Not as promised: {broken}", directory)
    except (environments.Unavailable, environments.NotStarted) as missing:
        return fail(2, f"This could not be shown: {missing}", directory)
    console.print(f"Every event of both runs is in the log, {directory / 'respool.db'}", soft_wrap=True)
    return 0


def client_of(url: str) -> OpenAI:
    """The stock client, without retries, so that nothing is mended behind the scenes."""
    direct = DefaultHttpxClient(trust_env=False, timeout=60)
    return OpenAI(base_url=url, api_key="none", max_retries=0, http_client=direct)


def fail(code: int, message: str, directory: Path) -> int:
    console.print("\n" + message, style="bold red", markup=False, soft_wrap=True)
    console.print(f"What the servers said is in {directory}", soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
