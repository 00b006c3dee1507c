"""What one may choose about a run of the benchmark, and how its servers take turns."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.bench.figures import Runs
from tests.bench.jobs import Figures
from tests.bench.load import Failed
from tests.bench.servers import Ground, Target


@dataclass(frozen=True, slots=True)
class Bench:
    """The ground and the choices. `seconds` is the least length of a run; `failures` collects what did not work."""

    ground: Ground
    seconds: float = 2.0
    repeats: int = 3
    servers: tuple[str, ...] = ("direct", "nginx", "plain", "azure", "respool")
    quick: bool = False
    followers: int = 10_000
    soak_seconds: float = 20.0
    million: int = 1_000_000
    failures: list[str] = field(default_factory=list)

    def among(self, *names: str) -> list[str]:
        """Those of these servers that take part."""
        return [name for name in names if name.partition(" ")[0] in self.servers or name == "bare"]

    def in_turn(self, targets: Sequence[Target], run: Callable[[Target], Figures]) -> Runs:
        """Every server once, and all of it as often as wished; one that fails is left out from then on."""
        found: Runs = {target.name: [] for target in targets}
        failed: set[str] = set()
        for _ in range(self.repeats):
            for target in targets:
                if target.name in failed:
                    continue
                try:
                    found[target.name].append(run(target))
                except Failed as failure:
                    failed.add(target.name)
                    self.say(f"{target.name}: {failure}")
        return found

    def say(self, words: str) -> None:
        """Note a failure."""
        self.failures.append(words)
        with suppress(OSError):
            print(f"  {words}", file=sys.stderr, flush=True)
