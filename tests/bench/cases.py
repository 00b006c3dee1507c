"""The cases by name, and what one may choose about them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.bench import latency, scale, throughput
from tests.bench.choices import Bench
from tests.bench.figures import Row


@dataclass(frozen=True, slots=True)
class Case:
    """A function that finds the figures of one or more of the cases."""

    names: tuple[str, ...]
    about: str
    run: Callable[[Bench], list[Row]]


CASES = (
    Case(("B1",), "burst", throughput.burst),
    Case(("B2", "B3"), "paced streams: added latency, processor time per event", latency.paced),
    Case(("B4",), "streams in flight", scale.in_flight),
    Case(("B5",), "admission", latency.admission),
    Case(("B6",), "replay", throughput.replay),
    Case(("B7",), "one run, many followers", latency.followers),
    Case(("B8",), "idle followers", scale.idle),
    Case(("B9",), "memory", scale.memory),
    Case(("B10",), "polls of a response in flight", latency.polls),
    Case(("B11",), "replays beside writes", latency.storm),
    Case(("B12",), "FULL beside NORMAL", throughput.durability),
)


def chosen(names: Iterable[str]) -> list[Case]:
    """The cases with these names, all for none. Raises ValueError for a name that is none."""
    wanted = [name.upper() for name in names]
    known = {name for case in CASES for name in case.names}
    if unknown := sorted(set(wanted) - known):
        raise ValueError(f"no such case: {', '.join(unknown)}")
    return [case for case in CASES if not wanted or set(case.names) & set(wanted)]
