"""`python -m tests.bench`: choose the cases, run them, print the table. It reports, and judges nobody by exit code.

0: done. 2: what was asked for cannot be done here.
"""

import argparse
import datetime
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from examples.environments import REPOSITORY
from tests.bench import machine, plots, report
from tests.bench.cases import CASES, Case, chosen
from tests.bench.choices import Bench
from tests.bench.figures import Row
from tests.bench.load import Failed
from tests.bench.processes import allow_many_files
from tests.bench.servers import ground, missing

_QUICK = ("B1", "B2", "B5")
_PAGE = REPOSITORY / "docs" / "performance.md"


def main() -> int:
    asked = _arguments().parse_args()
    names = asked.case.split(",") if asked.case else _QUICK if asked.quick else ()
    servers = asked.servers.split(",") if asked.servers else _servers(asked.quick)
    directory = Path(tempfile.mkdtemp(prefix="respool-bench-", dir=asked.directory))
    try:
        found = _measure(chosen(names), servers, directory, asked)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(found.text())
    _keep(found, asked)
    return 0


def _servers(quick: bool) -> list[str]:
    # A quick run is no time to install an SDK and to wait for it.
    return ["direct", "nginx", "plain", *([] if quick else ["azure"]), "respool"]


def _measure(cases: list[Case], servers: list[str], directory: Path, asked: argparse.Namespace) -> report.Report:
    allow_many_files()
    before, words = machine.load_average(), machine.describe(directory)
    print("\n".join(words.lines()), file=sys.stderr)
    absent = missing(servers)
    rows: list[Row] = []
    with ground(directory) as stands_on:
        os.sched_setaffinity(0, {stands_on.processors[1]})
        bench = Bench(
            ground=stands_on,
            seconds=asked.seconds or 2.0,
            repeats=asked.repeat or (1 if asked.quick else 3),
            servers=tuple(servers),
            quick=asked.quick,
            followers=asked.followers,
            soak_seconds=asked.soak,
            failures=absent,
        )
        for case in cases:
            rows += _run(case, bench)
    choices = f"{'quick, ' if asked.quick else ''}{bench.repeats} runs of at least {bench.seconds:g} s, medians"
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return report.Report(words, today, choices, (before, machine.load_average()), rows, bench.failures)


def _run(case: Case, bench: Bench) -> list[Row]:
    began = time.monotonic()
    try:
        rows = case.run(bench)
    except Failed as failure:
        bench.say(f"{' '.join(case.names)}: {failure}")
        return []
    print(f"{' '.join(case.names)} {case.about}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    for row in rows:
        print(
            f"  {row.figure} [{row.unit}]",
            {name: report.number(value) for name, value in row.medians.items()},
            file=sys.stderr,
        )
    return rows


def _keep(found: report.Report, asked: argparse.Namespace) -> None:
    folder = asked.svg or (_PAGE.with_suffix("") if asked.write else None)
    drawn = plots.draw(found.rows, Path(folder)) if folder else []
    if asked.write:
        report.write_page(found, _PAGE, drawn)
    json_file = asked.json or (_PAGE.with_suffix(".json") if asked.write else None)
    if json_file:
        report.write_json(found, Path(json_file))


def _arguments() -> argparse.ArgumentParser:
    cases = "; ".join(f"{' '.join(case.names)} {case.about}" for case in CASES)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__, epilog=f"Cases: {cases}.")
    parser.add_argument("--quick", action="store_true", help=f"a report for CI in less than 90 s: {', '.join(_QUICK)}")
    parser.add_argument("--case", metavar="B1,B4", help="these cases alone")
    parser.add_argument("--servers", metavar="NAMES", help="these alone of direct, nginx, plain, azure, respool")
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of each server, in turn [3; quick: 1]")
    parser.add_argument("--seconds", type=float, metavar="S", help="least length of a run [2]")
    parser.add_argument("--followers", type=int, default=10_000, metavar="N", help="idle followers in B8 [10000]")
    parser.add_argument("--soak", type=float, default=20, metavar="S", help="seconds of the soak in B9 [20]")
    parser.add_argument("--directory", default="/var/tmp", help="where the log is kept, on a disk [/var/tmp]")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--svg", metavar="DIR", help="draw the plots there")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, .json and the plots")
    return parser


if __name__ == "__main__":
    sys.exit(main())
