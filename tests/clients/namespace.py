"""A network of its own, in which a client can vanish: no FIN, no RST, nothing comes from it or gets to it any more."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_NEW_NETWORK = 0x40000000

CLIENT = "127.0.0.66"
"""The address that clients use, so that the way back to them can be cut."""


@contextmanager
def network() -> Iterator[str]:
    """Be in a network that is a loopback alone, with all sockets made and processes started in the block; its name.

    That holds for this thread. Needs root and `ip`; skips where it cannot be made, but not in CI.
    """
    name = f"respool-{os.getpid()}"
    if shutil.which("ip") is None or os.geteuid() != 0:
        _without("a network of its own needs root and the command ip")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        _without(f"no network can be made: {made.stderr.strip()}")
    try:
        _ip(name, "link", "set", "lo", "up")
        with open("/proc/thread-self/ns/net") as home:
            _enter(f"/run/netns/{name}")
            try:
                yield name
            finally:
                _enter(f"/proc/self/fd/{home.fileno()}")
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _without(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _enter(place: str) -> None:
    with open(place) as there:
        if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "cannot enter the network")


def _ip(name: str, *words: str) -> None:
    subprocess.run(["ip", "-n", name, *words], check=True, capture_output=True)


def vanish(name: str) -> None:
    """From now on what is sent to the clients is lost without a word."""
    _ip(name, "route", "add", "blackhole", f"{CLIENT}/32", "table", "local")
