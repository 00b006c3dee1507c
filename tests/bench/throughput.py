"""How many events a second: bursts, replays, and what durability takes of them."""

import math

from tests.bench.choices import Bench
from tests.bench.figures import Row, Runs, at_least, below, each, losses, named, nothing_lost
from tests.bench.jobs import Figures
from tests.bench.load import Failed
from tests.bench.script import Script
from tests.bench.servers import Target

_WRITES = (("a turn of the agent's loop for each event", 2), ("a write for each event", 1), ("writes of 64 KiB", 0))
"""How the agent sends a burst: as one on asyncio does, as fast as single writes can be, and in large pieces."""

_LEAST = 5_120
_MOST = 409_600
_BLOCK = 256
_REPLAYED = 10_000


def burst(bench: Bench) -> list[Row]:
    rows: list[Row] = []
    own: dict[tuple[int, str], list[Figures]] = {}
    names = bench.among("direct", "nginx", "plain", "azure", "azure resilient", "respool")
    with bench.ground.up(*names) as targets:
        bench.ground.prepare(_MOST)
        for writes, of_its_own in _WRITES[:1] if bench.quick else _WRITES:
            for streams in (1, 20):
                # Azure's SDK is its own agent: how the other one writes is nothing to it.
                again = [target for target in targets if of_its_own or not target.name.startswith("azure")]
                runs = _bursts(bench, again, streams, of_its_own)
                own |= {(streams, name): found for name, found in runs.items() if name.startswith("azure")}
                runs |= {name: found for (count, name), found in own.items() if count == streams}
                rows += _burst_rows(runs, streams, writes)
    return rows


def _bursts(bench: Bench, targets: list[Target], streams: int, each_write: int) -> Runs:
    sizes: dict[str, int] = {}
    for target in targets:
        try:
            first = _burst(bench, target, streams, _LEAST, each_write, seconds=0.001)
            sizes[target.name] = min(max(_LEAST, int(first["events"] / first["seconds"] * bench.seconds * 1.1)), _MOST)
        except Failed as failure:
            bench.say(f"B1, {target.name}: {failure}")
    able = [target for target in targets if target.name in sizes]
    return bench.in_turn(
        able, lambda target: _burst(bench, target, streams, sizes[target.name], each_write, bench.seconds)
    )


def _burst(bench: Bench, target: Target, streams: int, deltas: int, each_write: int, seconds: float) -> Figures:
    share = math.ceil(deltas / streams / _BLOCK) * _BLOCK
    script = Script(burst=share, each=each_write)
    return bench.ground.load.run(
        "burst", port=target.port, pids=target.pids, script=str(script), streams=streams, seconds=seconds
    )


def _burst_rows(runs: Runs, streams: int, writes: str) -> list[Row]:
    name = f"burst, {streams} stream{'s' * (streams > 1)}, {writes}"
    rate = Row("B1", name, "events/s", each(runs, lambda run: run["events"] / run["seconds"]), [], losses(runs))
    found = rate.medians
    rate.bars.extend(
        [
            at_least(0.6, found.get("respool"), found.get("nginx"), "of nginx (target 0.8)"),
            at_least(3, found.get("respool"), found.get("plain"), "of the pass-through"),
            at_least(8, found.get("respool"), found.get("azure"), "of Azure's SDK"),
            nothing_lost(runs, "respool"),
        ]
    )
    with_process = {server: of_server for server, of_server in runs.items() if server != "direct"}
    costs = each(with_process, lambda run: run["cpu"] / run["events"] * 1e6)
    return [rate, Row("B1", f"{name}: processor time", "us/event", costs, more_is_better=False)]


def replay(bench: Bench) -> list[Row]:
    runs: Runs = {}
    script = Script(burst=_REPLAYED)
    with bench.ground.up(*bench.among("nginx", "azure", "respool")) as targets:
        bench.ground.prepare(_REPLAYED)
        files = {target.name: target.place / "files" / "replay.sse" for target in targets}
        paths = {}
        for target in reversed(targets):
            if target.name == "nginx":
                paths["nginx"] = "/files/replay.sse"
                continue
            file = str(files["nginx"]) if target.name == "respool" and "nginx" in files else None
            made = bench.ground.load.run("finished", port=target.port, pids=target.pids, script=str(script), file=file)
            paths[target.name] = made["path"] + "?stream=true"
        runs = bench.in_turn(
            targets,
            lambda target: bench.ground.load.run(
                "replay",
                port=target.port,
                pids=target.pids,
                path=paths[target.name],
                deltas=_REPLAYED,
                streams=1,
                seconds=bench.seconds,
            ),
        )
    row = Row("B6", "replay of 10,000 events", "events/s", each(runs, lambda run: run["events"] / run["seconds"]))
    found = row.medians
    row.notes.extend(losses(runs))
    row.bars.extend(
        [
            at_least(4, found.get("respool"), found.get("azure"), "of Azure's SDK"),
            at_least(0.5, found.get("respool"), found.get("nginx"), "of nginx with a file"),
            nothing_lost(runs, "respool"),
        ]
    )
    return [row, Row("B6", "the same", "MB/s", each(runs, lambda run: run["bytes"] / run["seconds"] / 1e6))]


def durability(bench: Bench) -> list[Row]:
    streams, rate = (50, 20) if bench.quick else (200, 20)
    script = Script(paced=int(rate * (bench.seconds + 1.5)), rate=rate, spread=1)
    with bench.ground.up("respool", "respool full") as targets:
        bench.ground.prepare(_MOST)
        bursts = _bursts(bench, targets, 1, 1)
        paced = bench.in_turn(
            targets,
            lambda target: bench.ground.load.run(
                "paced", port=target.port, pids=target.pids, script=str(script), streams=streams, skip=1.0
            ),
        )
    fast = Row("B12", "burst, 1 stream", "events/s", each(bursts, lambda run: run["events"] / run["seconds"]))
    fast.bars.append(at_least(0.5, fast.medians.get("respool full"), fast.medians.get("respool"), "of NORMAL"))
    steady = Row("B12", f"paced, {streams} x {rate}/s: p50", "ms", named(paced, "p50"), more_is_better=False)
    found = steady.medians
    steady.bars.append(below(1, _difference(found, "respool full", "respool"), "ms", "more than NORMAL"))
    for row, runs in ((fast, bursts), (steady, paced)):
        row.notes.extend(losses(runs))
    return [fast, steady]


def _difference(found: dict[str, float], one: str, other: str) -> float | None:
    return found[one] - found[other] if one in found and other in found else None
