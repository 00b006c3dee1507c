"""Requests that another server could read otherwise: where they end, where they go, whose they are. All are refused.

A proxy before respool or the agent behind it would take one request for two, or this one's for another's. h11 forgives
bare line feeds, folded lines, control characters and odd chunk sizes: it keeps what has arrived in a buffer that cuts
out lines, and here that buffer looks at the lines before it hands them over. Source: RFC 9112.
"""

import re
from collections.abc import Iterable, Mapping

import h11
from h11._receivebuffer import ReceiveBuffer

from respool.proxy.protocol.errors import WireError
from respool.proxy.reply import Scope
from respool.proxy.upstream import hop_by_hop

_END = b"\r\n\r\n"
# A line end that is not CRLF, a line that continues the one before, or a control character other than the tab.
_FORGIVEN = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CHUNK_HEAD = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[^\s/?#@\\]*")


class StrictLines(ReceiveBuffer):
    """The buffer of one connection. Raises h11.RemoteProtocolError, which h11 answers with 400."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """The lines of a head or of trailers, once the empty line behind them is there."""
        if self._data.startswith(b"\r\n"):
            self._extract(2)
            return []
        looked_at = self._multiple_lines_search
        end = self._data.find(_END, max(0, looked_at - len(_END)))
        if end >= 0:
            lines = self._extract(end + len(_END))
            _check(_FORGIVEN.search(lines) is None)
            return lines[: -len(_END)].split(b"\r\n")
        # One that waits for an empty line of line feeds alone would wait for ever.
        _check(_BARE_LF.search(self._data, looked_at) is None)
        self._multiple_lines_search = len(self._data)
        return None

    def maybe_extract_next_line(self) -> bytearray | None:
        """The line before a chunk."""
        line = super().maybe_extract_next_line()
        _check(line is None or _CHUNK_HEAD.fullmatch(line) is not None)
        return line


def make_strict(connection: h11.Connection) -> None:
    """Let a new connection read its requests so."""
    connection._receive_buffer = StrictLines()


def unclear(scope: Scope, owner_headers: Iterable[str]) -> WireError | None:
    """The refusal of a request whose lines are good and which can be understood in two ways all the same."""
    given = {name.lower(): value for name, value in scope["headers"]}
    named = hop_by_hop(scope["headers"])
    http_status, code, words = 400, "bad_request", _unclear_end(scope["http_version"], given) or _unclear_place(scope)
    if scope["http_version"] not in ("1.0", "1.1"):
        http_status, words = 505, "The version of HTTP here is 1.1."
    elif named & {name.encode() for name in owner_headers}:
        words = "A header that names the owner is not one of the connection."
    elif b"upgrade" in named and given.get(b"upgrade", b"").lower() == b"websocket":
        # Refused by itself: what stands before respool may take the connection for a tunnel from here on.
        http_status, code = 426, "websocket_unsupported"
        words = "The Responses API is served over HTTP here, not over WebSocket."
    return WireError(http_status, words, code=code, headers={"connection": "close"}) if words else None


def _unclear_end(version: str, given: Mapping[bytes, bytes]) -> str | None:
    length, is_chunked = given.get(b"content-length"), b"transfer-encoding" in given
    if length is not None and is_chunked:
        return "A request has a content-length or a transfer-encoding, not both."
    if is_chunked and version == "1.0":
        return "HTTP/1.0 has no transfer-encoding."
    if length is not None and not _LENGTH.fullmatch(length):
        return "The content-length is no number of bytes."
    return None


def _unclear_place(scope: Scope) -> str | None:
    target, hosts = scope["raw_path"], (value for name, value in scope["headers"] if name.lower() == b"host")
    if scope["method"] == "CONNECT" or not target.startswith(b"/") or b"#" in target + scope["query_string"]:
        return "The target of a request here is a path."
    if not all(map(_HOST.fullmatch, hosts)):
        return "The host is not one."
    return None


def _check(is_fine: bool) -> None:
    if not is_fine:
        raise h11.RemoteProtocolError("malformed lines", error_status_hint=400)
