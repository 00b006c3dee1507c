"""How long one waits: for an event, for an answer to begin, for a poll; alone and among many."""

import statistics

from tests.bench.choices import Bench
from tests.bench.figures import Row, Runs, at_most, below, each, losses, named, nothing_lost
from tests.bench.jobs import Figures
from tests.bench.script import Script
from tests.bench.servers import Target

_COMING_SECONDS = 10.0


def paced(bench: Bench) -> list[Row]:
    streams = 50 if bench.quick else 200
    with bench.ground.up(*bench.among("direct", "nginx", "plain", "azure", "respool")) as targets:
        runs = bench.in_turn(targets, lambda target: live(bench, target, streams))
    name = f"paced, {streams} x 20/s"
    rows = []
    for part, limit in (("p50", 2.0), ("p99", 15.0)):
        row = Row("B2", f"{name}: {part}", "ms", named(runs, part), more_is_better=False)
        found = row.medians
        added = found["respool"] - found["direct"] if {"respool", "direct"} <= set(found) else None
        row.bars.append(below(limit, added, "ms", "added"))
        rows.append(row)
    rows[0].notes.extend(losses(runs))
    rows[0].bars.append(nothing_lost(runs, "respool"))
    with_process = {server: of_server for server, of_server in runs.items() if server != "direct"}
    costs = each(with_process, lambda run: run["cpu"] / run["events"] * 1e6)
    cost = Row("B3", f"{name}: processor time", "us/event", costs, more_is_better=False)
    cost.bars.append(
        at_most(1.1, cost.medians.get("respool"), cost.medians.get("plain"), "of the pass-through (target 0.8)")
    )
    return [*rows, cost]


def live(bench: Bench, target: Target, streams: int) -> Figures:
    """Streams of 20 events a second, out of step, for the length of a run after their first second."""
    script = Script(paced=int(20 * (bench.seconds + 1.5)), rate=20, spread=1)
    return bench.ground.load.run(
        "paced", port=target.port, pids=target.pids, script=str(script), streams=streams, skip=1.0
    )


def admission(bench: Bench) -> list[Row]:
    with bench.ground.up(*bench.among("direct", "nginx", "plain", "azure", "respool")) as targets:
        runs = bench.in_turn(
            targets,
            lambda target: bench.ground.load.run(
                "admit", port=target.port, pids=target.pids, script=str(Script()), seconds=bench.seconds
            ),
        )
    wait = Row("B5", "one POST: time to first byte, p50", "ms", named(runs, "p50"), more_is_better=False)
    slow = Row("B5", "one POST: time to first byte, p99", "ms", named(runs, "p99"), more_is_better=False)
    found = wait.medians
    added = found["respool"] - found["direct"] if {"respool", "direct"} <= set(found) else None
    wait.bars.extend([below(5, added, "ms", "added"), nothing_lost(runs, "respool")])
    wait.notes.extend(losses(runs))
    with_process = {server: of_server for server, of_server in runs.items() if server != "direct"}
    cost = Row(
        "B5",
        "one POST with a response of 8 events: processor time",
        "ms/POST",
        named(with_process, "cpu_ms"),
        more_is_better=False,
    )
    cost.bars.append(below(2, cost.medians.get("respool"), "ms"))
    return [wait, slow, cost]


def followers(bench: Bench) -> list[Row]:
    count = 100 if bench.quick else 1_000
    # They come in the silence, so that what is measured is following and not coming.
    script = Script(paced=int(50 * (bench.seconds + 1)), rate=50, wait=3 if bench.quick else _COMING_SECONDS)
    with bench.ground.up(*bench.among("azure", "respool")) as targets:
        runs = bench.in_turn(
            targets,
            lambda target: bench.ground.load.run(
                "followed", port=target.port, pids=target.pids, script=str(script), followers=count
            ),
        )
    name = f"one run, 50/s, {count:,} followers"
    rows = []
    for part, limit in (("p50", 50.0), ("p99", 250.0)):
        row = Row("B7", f"{name}: {part}", "ms", named(runs, part), more_is_better=False)
        row.bars.append(below(limit, row.medians.get("respool"), "ms"))
        rows.append(row)
    rows[0].bars.append(nothing_lost(runs, "respool"))
    rows[0].notes.extend(losses(runs))
    costs = each(runs, lambda run: run["cpu"] / max(1, run["events"]) * 1e6)
    return [*rows, Row("B7", f"{name}: processor time", "us/delivery", costs, more_is_better=False)]


def polls(bench: Bench) -> list[Row]:
    script = Script(burst=10_000, paced=60, rate=20)
    with bench.ground.up(*bench.among("azure", "respool")) as targets:
        bench.ground.prepare(10_000)
        runs = bench.in_turn(
            targets,
            lambda target: bench.ground.load.run(
                "polled", port=target.port, pids=target.pids, script=str(script), polls=10
            ),
        )
    first = Row(
        "B10", "poll at 10,000 events, the first: processor time", "ms", each(runs, lambda run: run["cpu_ms"][0])
    )
    later = Row("B10", "the nine after it", "ms", each(runs, lambda run: statistics.median(run["cpu_ms"][1:])))
    later.bars.append(at_most(0.25, later.medians.get("respool"), first.medians.get("respool"), "of the first"))
    objects = {name: of_server[0]["object"] / 1024 for name, of_server in runs.items() if of_server}
    first.notes.append("object " + ", ".join(f"{name} {size:.0f} KiB" for name, size in objects.items()))
    waits = Row("B10", "the nine after it: time", "ms", each(runs, lambda run: statistics.median(run["ms"][1:])))
    return [first, later, waits]


def storm(bench: Bench) -> list[Row]:
    replays, streams = (16, 20) if bench.quick else (128, 100)
    ground, script = bench.ground, Script(burst=10_000)
    alone: Runs = {"respool": []}
    beside: Runs = {"respool": []}
    storms: Runs = {"respool": []}
    with ground.up("respool") as (target,):
        ground.prepare(10_000)
        made = ground.load.run("finished", port=target.port, pids=target.pids, script=str(script))
        for _ in range(bench.repeats):
            alone["respool"].append(live(bench, target, streams))
            ground.second.start(
                "storm",
                port=target.port,
                pids=target.pids,
                path=made["path"] + "?stream=true",
                events=made["events"],
                streams=replays,
                seconds=bench.seconds + 1.5,
            )
            try:
                beside["respool"].append(live(bench, target, streams))
            finally:
                storms["respool"].append(ground.second.result())
    name = f"{streams} streams write"
    rows = []
    for part in ("p50", "p99"):
        calm = Row("B11", f"{name}: {part}", "ms", named(alone, part))
        rough = Row("B11", f"the same beside {replays} replays", "ms", named(beside, part))
        if part == "p99":
            rough.bars.append(at_most(2, rough.medians.get("respool"), calm.medians.get("respool"), "of p99 alone"))
        rows += [calm, rough]
    told = Row(
        "B11",
        "replays meanwhile",
        "events/s",
        each(storms, lambda run: run["replays"] * made["events"] / run["seconds"]),
    )
    lost = {"respool": alone["respool"] + beside["respool"] + storms["respool"]}
    told.bars.append(nothing_lost(lost, "respool"))
    return [*rows, told]
