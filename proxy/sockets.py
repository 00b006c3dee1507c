"""What is asked of the kernel about a client: to notice that one has vanished, and how much of what we sent it took."""

import fcntl
import resource
import select
import socket
import struct
import termios
from contextlib import suppress

_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def watch_over(listener: socket.socket, seconds: float) -> None:
    """Let the kernel break a connection on which all is quiet when its client has answered no probe for so long.

    The connections that are accepted inherit it. TCP_USER_TIMEOUT, which also counts while something is on its way,
    takes a client for dead that reads slowly: it counts on while a small window opens and closes.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", max(1, round(seconds / 2))),
        ("TCP_KEEPINTVL", max(1, round(seconds / 6))),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def has_left(sock: socket.socket) -> bool:
    """Whether the client has closed its side, also behind bytes that nobody has read yet."""
    poll = select.poll()
    try:
        poll.register(sock.fileno(), _GONE)
    except ValueError:
        return True
    return bool(poll.poll(0))


def untaken_bytes(sock: socket.socket) -> int:
    """What the kernel holds of an answer because the client has not acknowledged it; 0 where it does not tell."""
    try:
        found: int = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    except (OSError, ValueError):
        return 0
    return found


def raise_file_limit() -> None:
    """Open as many files as this process may: every client is one, and the usual limit is that of programs with few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems have a lower limit that they do not tell; what there is then stays.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_allowed() -> int:
    """How many clients the limit of open files allows, leaving a quarter to the agent's connections and to the log."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return max(1, soft - max(soft // 4, 64))
