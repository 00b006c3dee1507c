"""Numbers as people read them, and the lengths of time that they type."""

import re

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZES = {"": 1, "b": 1, "k": 2**10, "kib": 2**10, "m": 2**20, "mib": 2**20, "g": 2**30, "gib": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def milliseconds(text: str) -> int:
    """`90s`, `30m`, `2h`, `7d`, `1d12h` in milliseconds. Raises ValueError."""
    parts = _LENGTH.findall(text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise ValueError(f"{text!r} is no length of time: say 90s, 30m, 2h, 7d or 1d12h")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def size_in_bytes(text: str) -> int:
    """`500M`, `2GiB`, `1000` in bytes; K, M and G are powers of 1,024. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or match[2] not in _SIZES:
        raise ValueError(f"{text!r} is no size: say 500M, 2G or a number of bytes")
    return round(float(match[1]) * _SIZES[match[2]])


def length(ms: float | None) -> str:
    """A length of time in five characters or so; "-" where there is none."""
    if ms is None:
        return "-"
    if ms < 0:
        return f"-{length(-ms)}"
    if ms < 999.5:
        return f"{ms:.0f}ms"
    seconds = ms / 1_000
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m"
    return f"{hours // 24}d{hours % 24:02d}h"


def age(ms: float) -> str:
    """How long ago, coarsely."""
    seconds = max(0, int(ms // 1_000))
    for unit, span in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * span or (seconds >= span and unit == "m"):
            return f"{seconds // span}{unit}"
    return f"{seconds}s"


def size(count: float | None) -> str:
    """Bytes, with a unit that is a power of 1,024."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1_000 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1_024
    raise AssertionError  # the last unit takes everything


def count_of(number: int, one: str, many: str | None = None) -> str:
    """`1 event`, `1,234 events`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rate(tokens: int | None, ms: float | None) -> float | None:
    """Tokens per second; None where either is unknown."""
    return tokens * 1_000 / ms if tokens is not None and ms else None
