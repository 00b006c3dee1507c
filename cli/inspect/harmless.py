"""Text of agents and users, made harmless for a terminal.

A terminal obeys control characters: an agent could retitle the window, overwrite a line, or type into the shell.
Whatever steers is shown instead of sent, and so is what reorders the characters around it.
"""

import re

_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BLOCK = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def line(text: str) -> str:
    """`text` on one line: line ends and tabs are shown too."""
    return _LINE.sub(_shown, text)


def block(text: str) -> str:
    """`text` with its line ends and tabs."""
    return _BLOCK.sub(_shown, text.replace("\r\n", "\n"))


def json(text: str) -> str:
    """JSON that means the same, with the characters escaped that steer terminals and that JSON lets pass."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
