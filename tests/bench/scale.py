"""What many of it cost: streams in flight, idle followers, memory over time and over a long response."""

from functools import partial

from tests.bench.choices import Bench
from tests.bench.figures import Bar, Row, Runs, at_most, each, losses, named, nothing_lost
from tests.bench.jobs import Figures
from tests.bench.load import Failed
from tests.bench.processes import allow_many_files, memory_bytes
from tests.bench.script import Script
from tests.bench.servers import Target

_FILES_APART = 500


def in_flight(bench: Bench) -> list[Row]:
    counts = (1, 100) if bench.quick else (1, 10, 100, 1_000, 2_000)
    script = str(Script(paced=5, rate=1))
    rows = []
    with bench.ground.up(*bench.among("direct", "nginx", "plain", "azure", "respool")) as targets:
        for count in counts:
            given = {"limit": 60, "script": script, "streams": count}
            runs = bench.in_turn(targets, partial(_together, bench, given))
            times = named(runs, "seconds")
            row = Row("B4", f"{count:,} streams in flight", "s", times, [], losses(runs), more_is_better=False)
            row.bars.append(nothing_lost(runs, "respool"))
            rows.append(row)
            costs = {name: [run["cpu"] / count * 1e3 for run in found] for name, found in runs.items() if found}
    costs.pop("direct", None)
    if len(counts) > 2:
        rows[-1].bars.extend(_growth([row.medians for row in rows]))
    rows.append(Row("B4", f"{counts[-1]:,} streams: processor time", "ms/stream", costs, more_is_better=False))
    return rows


def _together(bench: Bench, given: Figures, target: Target) -> Figures:
    return bench.ground.load.run("together", port=target.port, pids=target.pids, **given)


def _growth(found: list[dict[str, float]]) -> list[Bar]:
    """From 100 to 2,000 streams is 2.1 times as far as from 100 to 1,000."""
    hundred, thousand, two = (times.get("respool") for times in found[-3:])
    if hundred is None or thousand is None or two is None:
        return [Bar("2,000 streams did not end", False)]
    # What is too short to be told from noise is straight.
    straight = at_most(2.5, max(0.0, two - hundred), max(0.5, thousand - hundred), "of the growth to 1,000")
    return [straight, at_most(2, two, found[-1].get("nginx"), "of nginx")]


def idle(bench: Bench) -> list[Row]:
    wanted = 500 if bench.quick else bench.followers
    count = min(wanted, allow_many_files() - _FILES_APART)
    runs: Runs = {"respool": [], "bare": []}
    for _ in range(bench.repeats):
        # New ones each time: memory that was once used is not given back.
        with bench.ground.up("respool", "bare") as targets:
            for target in targets:
                script = str(Script(hang=1)) if target.name == "respool" else None
                try:
                    found = bench.ground.load.run(
                        "idle",
                        port=target.port,
                        pids=target.pids,
                        path="/",
                        script=script,
                        followers=count,
                        hold=2.0,
                    )
                    runs[target.name].append(found)
                except Failed as failure:
                    bench.say(f"B8, {target.name}: {failure}")
    sizes = each(runs, lambda run: run["bytes"] / 1024)
    row = Row("B8", f"{count:,} idle followers: memory of each", "KiB", sizes, [], losses(runs), more_is_better=False)
    row.bars.append(at_most(1.5, row.medians.get("respool"), row.medians.get("bare"), "of a bare follower"))
    row.bars.append(nothing_lost(runs, "respool"))
    return [row]


def memory(bench: Bench) -> list[Row]:
    return [*_soak(bench), _long_response(bench)]


def _soak(bench: Bench) -> list[Row]:
    streams = 50 if bench.quick else 200
    script = Script(paced=100, rate=20, spread=1)
    with bench.ground.up("respool") as (target,):
        found = bench.ground.load.run(
            "soaked",
            limit=bench.soak_seconds + 60,
            port=target.port,
            pids=target.pids,
            script=str(script),
            streams=streams,
            seconds=bench.soak_seconds,
        )
    sizes = [size / 2**20 for size in found["bytes"]]
    early, late = sizes[len(sizes) // 4 : len(sizes) // 2], sizes[-max(1, len(sizes) // 4) :]
    name = f"memory, {streams} x 20/s for {bench.soak_seconds:g} s"
    row = Row("B9", f"{name}: second quarter", "MiB", {"respool": early}, more_is_better=False)
    last = Row("B9", "the same: last quarter", "MiB", {"respool": late}, more_is_better=False)
    last.bars.append(at_most(1.05, last.medians.get("respool"), row.medians.get("respool"), "of the second quarter"))
    last.bars.append(nothing_lost({"respool": [found]}, "respool"))
    return [row, last]


def _long_response(bench: Bench) -> Row:
    deltas = bench.million // 10 if bench.quick else bench.million
    with bench.ground.up("respool") as (target,):
        # What a process takes once, for its first response, belongs to no response.
        given: Figures = {"port": target.port, "pids": target.pids}
        bench.ground.load.run("finished", **given, script=str(Script(burst=1_000)))
        before = memory_bytes(target.pids)
        found = bench.ground.load.run("finished", **given, script=str(Script(burst=deltas)))
    size, grown = found["object"] / 2**20, (found["peak"] - before) / 2**20
    row = Row("B9", f"most memory over {deltas:,} events", "MiB", {"respool": [grown]}, more_is_better=False)
    read = (found["peak_read"] - before) / 2**20
    row.notes.append(f"final object {size:.1f} MiB; {read:.1f} MiB when it has been read too")
    row.bars.append(at_most(3, grown, size, "of the final object"))
    row.bars.append(nothing_lost({"respool": [found]}, "respool"))
    return row
