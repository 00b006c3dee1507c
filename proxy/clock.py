"""The time of day for what is kept for a while: a clock that is set while we run must not make it expire early.

Beside the time of day runs a second clock, which was set by it when the process began and is never set again. An end is
dated by the later of the two, and its age is counted by the earlier one: whichever way the time of day jumps, nothing
goes early, and what is kept longer is so by no more than the jump. At its start a process must believe the time of day.
"""

import time

_BEGAN_NS = time.time_ns() - time.monotonic_ns()
_NS_IN_MS = 1_000_000


def now_ms() -> int:
    """The time of day, unix milliseconds: for what is only told."""
    return time.time_ns() // _NS_IN_MS


def latest_ms() -> int:
    """When something ends that is to be kept for a while, unix milliseconds."""
    return max(time.time_ns(), _steady_ns()) // _NS_IN_MS


def earliest_ms() -> int:
    """The time that the age of such a thing is counted up to, unix milliseconds."""
    return min(time.time_ns(), _steady_ns()) // _NS_IN_MS


def _steady_ns() -> int:
    return _BEGAN_NS + time.monotonic_ns()
