"""The cases of `fuzz.py`, chosen by what code they reach.

`python -m tests.protocol.by_coverage sse -runs=1000000 -seed=1`: which cases, and options of libFuzzer. Needs atheris.
"""

import sys

import atheris

# Only what is imported here is watched: to watch everything takes longer than to run it.
with atheris.instrument_imports(include=["respool.proxy.protocol"]):
    from tests.protocol.fuzz import CASES


class Bytes:
    """Decisions out of the bytes that the fuzzer made."""

    def __init__(self, data: bytes) -> None:
        self._data = atheris.FuzzedDataProvider(data)

    def below(self, limit: int) -> int:
        """A number from 0, smaller than `limit`."""
        return int(self._data.ConsumeIntInRange(0, limit - 1))


def main(which: str, *options: str) -> None:
    atheris.Setup([sys.argv[0], *options], lambda data: CASES[which](Bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
