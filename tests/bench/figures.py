"""What a case has found: figures of several servers side by side, and the bars that they are held to."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench.jobs import Figures


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that a figure must show, with the number found; `met` is None where nothing is there to compare."""

    words: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: all runs by server, and their medians."""

    case: str
    figure: str
    unit: str
    runs: dict[str, list[float]]
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more_is_better: bool = True

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(runs) for name, runs in self.runs.items() if runs}


Runs = dict[str, list[Figures]]


def each(runs: Runs, figure: Callable[[Figures], float]) -> dict[str, list[float]]:
    """One figure of every run."""
    return {name: [figure(run) for run in of_server] for name, of_server in runs.items()}


def named(runs: Runs, name: str) -> dict[str, list[float]]:
    """The figure of this name of every run."""
    return each(runs, lambda run: float(run[name]))


def losses(runs: Runs) -> list[str]:
    """A sentence for every server that did not deliver everything."""
    lost = {name: sum(run["missing"] for run in of_server) for name, of_server in runs.items()}
    return [f"{name}: {count} events missing" for name, count in lost.items() if count]


def at_least(floor: float, mine: float | None, other: float | None, words: str) -> Bar:
    """`mine` over `other` must reach the floor."""
    return _held(mine, other, words, floor, lambda ratio: ratio >= floor, ">=")


def at_most(ceiling: float, mine: float | None, other: float | None, words: str) -> Bar:
    """`mine` over `other` must not exceed the ceiling."""
    return _held(mine, other, words, ceiling, lambda ratio: ratio <= ceiling, "<=")


def _held(
    mine: float | None, other: float | None, words: str, limit: float, holds: Callable[[float], bool], sign: str
) -> Bar:
    if mine is None or not other:
        return Bar(f"{sign} {limit:g} {words}: nothing to compare", None)
    ratio = mine / other
    return Bar(f"{ratio:.2f} {words} ({sign} {limit:g})", holds(ratio))


def below(limit: float, found: float | None, unit: str, words: str = "") -> Bar:
    """`found` must not exceed the limit."""
    said = f" {words}" if words else ""
    if found is None:
        return Bar(f"<= {limit:g} {unit}{said}: nothing found", None)
    return Bar(f"{found:.2f} {unit}{said} (<= {limit:g})", found <= limit)


def nothing_lost(runs: Runs, name: str) -> Bar:
    lost = sum(run["missing"] for run in runs.get(name, []))
    return Bar("nothing lost" if not lost else f"{lost} events lost", not lost)
