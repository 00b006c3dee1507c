"""What the load generator can be asked to do; each job gives back plain figures.

`port` is where the server under test listens, `pids` are its processes, seconds are seconds.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tests.bench.connecting import connect, connect_all
from tests.bench.processes import cpu_seconds, memory_bytes
from tests.bench.script import Script
from tests.bench.wire import Answer, Counted, Live, Tally, Whole, get, post

Figures = dict[str, Any]


async def fetch(port: int, request: bytes) -> Answer:
    """One answer, whole."""
    stream = await connect(port, partial(Whole, request))
    await stream.ended
    return stream.answer()


async def burst(port: int, pids: list[int], script: str, streams: int, seconds: float) -> Figures:
    """The script on some streams at once, again and again until the time is used."""
    return await _rounds(port, pids, post(script), Script.parse(script).deltas, streams, seconds)


async def replay(port: int, pids: list[int], path: str, deltas: int, streams: int, seconds: float) -> Figures:
    """A finished response, or a file of the same bytes, again and again until the time is used."""
    return await _rounds(port, pids, get(path), deltas, streams, seconds)


async def storm(port: int, pids: list[int], path: str, events: int, streams: int, seconds: float) -> Figures:
    """So many clients, each of which replays a finished response again and again until the time is over."""
    began, replays, missing = time.perf_counter(), 0, 0

    async def place() -> None:
        nonlocal replays, missing
        while time.perf_counter() - began < seconds:
            stream = await connect(port, partial(Counted, get(path)))
            missing += abs(events - await stream.ended)
            replays += 1

    await asyncio.gather(*(place() for _ in range(streams)))
    return {"replays": replays, "missing": missing, "seconds": time.perf_counter() - began}


async def _rounds(port: int, pids: list[int], request: bytes, deltas: int, streams: int, seconds: float) -> Figures:
    took = cpu = 0.0
    events = missing = size = 0
    while took < seconds:
        gc.collect()
        cpu_before, began = cpu_seconds(pids), time.perf_counter()
        answers = await asyncio.gather(*(connect(port, partial(Whole, request)) for _ in range(streams)))
        await asyncio.gather(*(stream.ended for stream in answers))
        took += max(stream.ended_at for stream in answers) - began
        cpu += cpu_seconds(pids) - cpu_before
        while answers:
            answer = answers.pop().answer()
            events, size = events + answer.events, size + len(answer.body)
            missing += answer.missing(deltas)
    return {"events": events, "bytes": size, "missing": missing, "seconds": took, "cpu": cpu}


async def paced(port: int, pids: list[int], script: str, streams: int, skip: float) -> Figures:
    """Live streams: how late each event is, and what it costs, from `skip` seconds on until the first stream ends."""
    tally = Tally()
    began = time.monotonic_ns()
    lives = await connect_all(port, [partial(Live, post(script), tally)] * streams)
    await asyncio.sleep(began / 1e9 + skip - time.monotonic())
    cpu, events, start = cpu_seconds(pids), tally.events, time.monotonic_ns()
    await asyncio.wait([live.ended for live in lives], return_when=asyncio.FIRST_COMPLETED)
    cpu, events, end = cpu_seconds(pids) - cpu, tally.events - events, time.monotonic_ns()
    ends = await asyncio.gather(*(live.ended for live in lives))
    tally.missing += sum(Script.parse(script).deltas - seen for seen in ends)
    late = tally.between(start, end)
    return {"events": events, "cpu": cpu, "missing": tally.missing, "seconds": (end - start) / 1e9, **_spread(late)}


async def together(port: int, pids: list[int], script: str, streams: int) -> Figures:
    """Streams that are all opened at once: seconds until the last has ended."""
    began = time.perf_counter()
    cpu = cpu_seconds(pids)
    answers = await connect_all(port, [partial(Whole, post(script))] * streams, at_once=512)
    await asyncio.gather(*(stream.ended for stream in answers))
    took = max(stream.ended_at for stream in answers) - began
    missing = sum(stream.answer().missing(Script.parse(script).deltas) for stream in answers)
    return {"seconds": took, "cpu": cpu_seconds(pids) - cpu, "missing": missing}


async def admit(port: int, pids: list[int], script: str, seconds: float) -> Figures:
    """One POST after the other, each on a connection of its own: ms from connecting to the first byte."""
    waits: list[float] = []
    missing = 0
    cpu, until = cpu_seconds(pids), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        stream = await connect(port, partial(Whole, post(script)))
        await stream.ended
        waits.append((stream.first_at - began) * 1e3)
        missing += stream.answer().missing(Script.parse(script).deltas)
    return {
        "posts": len(waits),
        "missing": missing,
        "cpu_ms": (cpu_seconds(pids) - cpu) * 1e3 / len(waits),
        **_spread(sorted(waits)),
    }


async def finished(port: int, pids: list[int], script: str, file: str | None = None) -> Figures:
    """A response that has ended, its id, the size of its object, and the most memory that the server had."""
    answer = await fetch(port, post(script))
    path, peak = f"/responses/{answer.response_id}", memory_bytes(pids, "VmHWM")
    final = await fetch(port, get(path))
    if file is not None:
        await asyncio.to_thread(_write, file, (await fetch(port, get(f"{path}?stream=true"))).body)
    missing = answer.missing(Script.parse(script).deltas)
    return {
        "path": path,
        "events": answer.events,
        "missing": missing,
        "object": len(final.body),
        "peak": peak,
        "peak_read": memory_bytes(pids, "VmHWM"),
    }


def _write(file: str, data: bytes) -> None:
    with open(file, "wb") as target:
        target.write(data)


async def followed(port: int, pids: list[int], script: str, followers: int) -> Figures:
    """One run with many followers: how late each event is, from half a second after all of them follow it."""
    tally = Tally()
    first = await connect(port, partial(Live, post(script), tally))
    path = f"/responses/{await first.began}?stream=true"
    lives = await connect_all(port, [partial(Live, get(path), tally)] * followers)
    await asyncio.gather(*(live.began for live in lives))
    start, cpu = time.monotonic_ns() + 500_000_000, cpu_seconds(pids)
    took = time.monotonic()
    ends = await asyncio.gather(*(live.ended for live in [first, *lives]))
    tally.missing += sum(Script.parse(script).deltas - seen for seen in ends)
    cpu, took = cpu_seconds(pids) - cpu, time.monotonic() - took
    late = tally.between(start, time.monotonic_ns())
    return {"events": len(late), "missing": tally.missing, "cpu": cpu, "seconds": took, **_spread(late)}


async def idle(port: int, pids: list[int], path: str, script: str | None, followers: int, hold: float) -> Figures:
    """Followers of a stream in which nothing happens: resident bytes of each. With a script its run is followed."""
    tally = Tally()
    first = None
    if script is not None:
        first = await connect(port, partial(Live, post(script), tally))
        path = f"/responses/{await first.began}?stream=true"
    warm = await connect_all(port, [partial(Live, get(path), tally)] * 20)
    await asyncio.gather(*(live.began for live in warm))
    before = memory_bytes(pids)
    lives = await connect_all(port, [partial(Live, get(path), tally)] * followers)
    await asyncio.gather(*(live.began for live in lives))
    await asyncio.sleep(hold)
    each = (memory_bytes(pids) - before) / followers
    cut = sum(live.ended.done() for live in lives)
    for live in [*warm, *lives, *([first] if first else [])]:
        live.leave()
    return {"bytes": each, "missing": cut}


async def polled(port: int, pids: list[int], script: str, polls: int) -> Figures:
    """Polls of a response in flight, once all of the script's burst has been seen."""
    tally = Tally()
    live = await connect(port, partial(Live, post(script), tally))
    path = f"/responses/{await live.began}"
    while tally.events < Script.parse(script).burst:  # noqa: ASYNC110 - the stream is another protocol's
        await asyncio.sleep(0.01)
    waits, cpu = [], []
    for _ in range(polls):
        await asyncio.sleep(0.1)
        before, began = cpu_seconds(pids), time.perf_counter()
        answer = await fetch(port, get(path))
        waits.append((time.perf_counter() - began) * 1e3)
        cpu.append((cpu_seconds(pids) - before) * 1e3)
    live.leave()
    return {"ms": waits, "cpu_ms": cpu, "object": len(answer.body), "missing": tally.missing}


async def soaked(port: int, pids: list[int], script: str, streams: int, seconds: float) -> Figures:
    """Streams one after the other in so many places, and the server's memory once a second."""
    until, sizes, missing = time.monotonic() + seconds, [], 0

    async def place() -> None:
        nonlocal missing
        while time.monotonic() < until:
            tally = Tally()
            live = await connect(port, partial(Live, post(script), tally))
            missing += abs(Script.parse(script).deltas - await live.ended) + tally.missing

    work = asyncio.gather(*(place() for _ in range(streams)))
    while time.monotonic() < until:
        await asyncio.sleep(1)
        sizes.append(memory_bytes(pids))
    await work
    return {"bytes": sizes, "missing": missing}


def _spread(ordered: list[float]) -> Figures:
    if not ordered:
        return {"p50": float("nan"), "p99": float("nan")}
    return {"p50": statistics.median_low(ordered), "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]}


JOBS: dict[str, Callable[..., Awaitable[Figures]]] = {
    job.__name__: job
    for job in (burst, replay, storm, paced, together, admit, finished, followed, idle, polled, soaked)
}
