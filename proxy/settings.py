"""Every knob once: its name with the unit in it, its default, and one sentence.

The command line and the `RESPOOL_...` variables are made from this class.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from respool.store.open import DEFAULT_STORE

DEFAULT_PREFIXES = (
    "",
    "/v1",
    "/openai",
    "/openai/v1",
    "/api/projects/*/openai/v1",
    "/agents/*/endpoint/protocols/openai",
    "/api/projects/*/agents/*/endpoint/protocols/openai",
)
DEFAULT_OWNER_HEADERS = ("x-agent-user-id", "x-agent-chat-isolation-key", "x-agent-user-isolation-key")

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """All settings of `respool serve`, frozen."""

    model_config = SettingsConfigDict(env_prefix="RESPOOL_", frozen=True, extra="forbid")

    upstream: str = Field(description="URL of the agent; creates go to its path + /responses.")
    listen: str = Field("127.0.0.1:8080", description="Address and port to serve on; port 0 takes a free one.")
    admin_listen: str | None = Field(
        None, description="Address and port for respool's own routes alone; its list shows everybody's responses."
    )
    store: str = Field(DEFAULT_STORE, description="Where the log is: sqlite:///FILE or memory:.")
    synchronous: Literal["normal", "full"] = Field(
        "normal", description="What a commit survives: the death of the process (normal) or a power cut too (full)."
    )
    prefixes: Names = Field(
        DEFAULT_PREFIXES, description="Path prefixes under which /responses is ours, with commas; * is one segment."
    )
    force_stream: Literal["always", "resumable"] = Field(
        "always", description="Ask the agent for a stream always, or only for streamed and background requests."
    )
    offer_id: Literal["header", "metadata", "both", "none"] = Field(
        "header", description="How the agent is told the response id: x-agent-response-id, metadata.response_id."
    )
    id_prefix: str = Field("caresp", pattern=r"^[A-Za-z0-9]+$", description="What minted response ids begin with.")
    unknown_ids: Literal["refuse", "forward"] = Field(
        "refuse", description="Whether ids that are not in the log get a 404 or are sent on to the agent."
    )
    replay: Literal["created", "any"] = Field(
        "created", description="Replay only what was created with background and stream, or any stored response."
    )
    cancelled_output: Literal["keep", "clear"] = Field(
        "keep", description="Whether a cancelled response keeps the output it had."
    )
    default_model: str | None = Field(None, description="Model for requests that name none.")
    owner_headers: Names = Field(
        DEFAULT_OWNER_HEADERS, description="Headers of a trusted platform that name a response's owner; first wins."
    )
    api_key_file: str | None = Field(
        None, description="File with one key a line; respool's own routes then ask for one of them."
    )
    auth_probe: str | None = Field(
        None, description="URL that is asked with the caller's headers whether they may use respool's own routes."
    )
    max_in_flight: int = Field(
        0, ge=0, description="How many runs may call the agent at a time; the others are queued, 0 is no limit."
    )
    accept_grace_ms: int = Field(
        1_000, ge=0, description="Longest wait of a background request for the agent's first event."
    )
    keep_alive_seconds: float = Field(15, ge=0, description="Silence after which a stream gets a comment; 0 is off.")
    grace_seconds: float = Field(8, ge=0, description="How long runs may go on after SIGTERM.")
    drain_seconds: float = Field(
        30, ge=0, description="How long the agent is still read after its terminal event, for what it writes then."
    )
    start_wait: float = Field(
        0, ge=0, description="Seconds for which a create waits for an agent that nobody can connect to yet."
    )
    connect_timeout_seconds: float = Field(10, gt=0, description="Longest wait for a connection to the agent.")
    header_timeout_seconds: float = Field(600, gt=0, description="Longest wait for the agent's answer to begin.")
    idle_timeout_seconds: float = Field(
        3_600, gt=0, description="Longest silence of the agent in mid-stream; longer than its longest tool call."
    )
    write_timeout_seconds: float = Field(
        30, gt=0, description="How long a client may take no byte before its connection is cut."
    )
    request_timeout_seconds: float = Field(
        15, gt=0, description="How long a client may take for a request's head, and then for every 4 KiB of its body."
    )
    connection_idle_seconds: float = Field(
        75, gt=0, description="How long a client's connection may stay open between two requests."
    )
    max_connections: int = Field(
        0, ge=0, description="Most connections of clients; 0 is three quarters of the limit of open files."
    )
    retention_seconds: float = Field(
        30 * 86_400, ge=0, description="How long a response is kept after its end; 0 is for ever."
    )
    max_store_bytes: int = Field(
        0, ge=0, description="Size of the log beyond which the responses that ended first go; 0 is no bound."
    )
    max_request_bytes: int = Field(64 * 2**20, gt=0, description="Largest body of a create.")
    max_event_bytes: int = Field(16 * 2**20, gt=0, description="Largest event of an agent, but for terminal ones.")
    max_object_bytes: int = Field(256 * 2**20, gt=0, description="Largest terminal event or JSON answer of an agent.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much is logged, on standard error."
    )

    @field_validator("upstream")
    @classmethod
    def _upstream_is_a_url(cls, url: str) -> str:
        parts = urlsplit(_checked(url))
        if parts.query or parts.fragment:
            raise ValueError("the URL of the agent has no query and no fragment")
        return url.rstrip("/")

    @field_validator("auth_probe")
    @classmethod
    def _probe_is_a_url(cls, url: str | None) -> str | None:
        return url if url is None else _checked(url)

    @field_validator("listen", "admin_listen")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address is not None:
            host_and_port(address)
        return address

    @field_validator("prefixes", "owner_headers", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("owner_headers")
    @classmethod
    def _in_lower_case(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in names)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// URL")
    try:
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} has no valid port") from error
    return url


def host_and_port(address: str) -> tuple[str, int]:
    """`127.0.0.1:8080` or `[::1]:8080` in two. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
