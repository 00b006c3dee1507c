"""A few cases of the fuzzer each time, a million and more in the soak."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.protocol.fuzz import CASES, Chance

SEED = int(os.environ.get("RESPOOL_SEED", "20260101"))
MANY = int(os.environ.get("RESPOOL_SOAK_CASES", "1000000"))
# How much of MANY: a run is some hundred times the work of a stream of bytes.
SHARES = {"sse": 1.0, "body": 0.5, "run": 0.1, "renumber": 0.5}


def fuzz(which: str, cases: int) -> None:
    began = time.monotonic()
    for seed in range(SEED, SEED + cases):
        try:
            CASES[which](Chance(seed))
        except Exception as error:
            raise AssertionError(f"{which}, seed {seed}") from error
    print(f"{which}: {cases} cases in {time.monotonic() - began:.0f} s, seeds from {SEED}")


@pytest.mark.parametrize("which", CASES)
def test_some_cases_hold(which: str) -> None:
    fuzz(which, int(2_000 * SHARES[which]))


@pytest.mark.soak
@pytest.mark.parametrize("which", CASES)
def test_a_million_cases_hold(which: str) -> None:
    fuzz(which, int(MANY * SHARES[which]))


@pytest.mark.soak
@pytest.mark.parametrize("which", CASES)
def test_cases_that_look_for_new_paths_hold(which: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install atheris")
    options = [f"-runs={int(MANY * SHARES[which])}", f"-seed={SEED}", "-max_len=4096"]
    command = [sys.executable, "-m", "tests.protocol.by_coverage", which, *options]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    print(done.stderr[-400:])
    assert done.returncode == 0, done.stderr[-8_000:]
