"""Every knob: what it takes, and what it says of what it does not take."""

import pytest
from pydantic import ValidationError

from respool.proxy.settings import DEFAULT_OWNER_HEADERS, DEFAULT_PREFIXES, Settings, host_and_port

AGENT = "http://127.0.0.1:8088"


def settings(upstream: str = AGENT) -> Settings:
    return Settings.model_validate({"upstream": upstream})


def complaint(**options: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"upstream": AGENT, **options})
    (problem,) = caught.value.errors()
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "agent:8088",
        "ftp://agent",
        "http://",
        "http:///path",
        "http://agent:port",
        "http://agent:99999",
        "http://agent?x=1",
        "http://agent#x",
    ],
)
def test_what_is_no_address_of_an_agent_is_refused(url: str) -> None:
    assert complaint(upstream=url).startswith("upstream: ")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (AGENT, AGENT),
        (AGENT + "/", AGENT),
        (AGENT + "/base/", AGENT + "/base"),
        ("https://agent.example", "https://agent.example"),
        ("http://[::1]:8088", "http://[::1]:8088"),
    ],
)
def test_the_address_of_an_agent_is_kept_without_a_slash_at_its_end(given: str, kept: str) -> None:
    assert settings(given).upstream == kept


@pytest.mark.parametrize("url", ["", "auth", "ftp://auth", "http://auth:port"])
def test_what_is_no_address_of_an_auth_service_is_refused(url: str) -> None:
    assert complaint(auth_probe=url).startswith("auth_probe: ")


@pytest.mark.parametrize("address", ["", "8080", ":8080", "host", "host:", "host:x", "host:65536", "host:-1"])
@pytest.mark.parametrize("name", ["listen", "admin_listen"])
def test_what_is_no_address_to_listen_on_is_refused(name: str, address: str) -> None:
    assert complaint(**{name: address}) == f"{name}: Value error, {address!r} is not HOST:PORT"


def test_addresses_come_apart() -> None:
    assert host_and_port("127.0.0.1:0") == ("127.0.0.1", 0)
    assert host_and_port("[::1]:8080") == ("::1", 8080)
    assert host_and_port("localhost:65535") == ("localhost", 65535)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("synchronous", "off"),
        ("force_stream", "never"),
        ("offer_id", "body"),
        ("unknown_ids", "drop"),
        ("replay", "all"),
        ("cancelled_output", "drop"),
        ("log_level", "loud"),
        ("id_prefix", "a_b"),
        ("id_prefix", ""),
        ("accept_grace_ms", -1),
        ("accept_grace_ms", "soon"),
        ("keep_alive_seconds", -0.1),
        ("drain_seconds", -1),
        ("grace_seconds", -1),
        ("connect_timeout_seconds", 0),
        ("header_timeout_seconds", 0),
        ("idle_timeout_seconds", 0),
        ("write_timeout_seconds", 0),
        ("max_request_bytes", 0),
        ("max_event_bytes", 0),
        ("max_object_bytes", 0),
        ("unknown", "x"),
    ],
)
def test_what_a_knob_does_not_take_is_told_by_its_name(name: str, value: object) -> None:
    assert complaint(**{name: value}).startswith(f"{name}: ")


def test_lists_are_split_at_commas() -> None:
    settings = Settings.model_validate({"upstream": AGENT, "prefixes": "/a, /b/*,", "owner_headers": "X-One,x-Two"})
    assert settings.prefixes == ("/a", "/b/*", "")
    assert settings.owner_headers == ("x-one", "x-two")


def test_the_defaults_are_those_of_the_contract() -> None:
    defaults = settings()
    assert defaults.prefixes == DEFAULT_PREFIXES
    assert defaults.owner_headers == DEFAULT_OWNER_HEADERS
    assert (defaults.accept_grace_ms, defaults.keep_alive_seconds) == (1_000, 15)
    assert (defaults.grace_seconds, defaults.drain_seconds) == (8, 30)
    assert defaults.max_request_bytes == 64 * 2**20
    assert defaults.max_event_bytes == 16 * 2**20
    assert defaults.max_object_bytes == 256 * 2**20
    assert (defaults.force_stream, defaults.offer_id, defaults.unknown_ids) == ("always", "header", "refuse")
    assert (defaults.replay, defaults.cancelled_output, defaults.id_prefix) == ("created", "keep", "caresp")


def test_variables_set_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPOOL_UPSTREAM", AGENT)
    monkeypatch.setenv("RESPOOL_ACCEPT_GRACE_MS", "5")
    monkeypatch.setenv("RESPOOL_PREFIXES", "/a,/b")
    settings = Settings.model_validate({"accept_grace_ms": 7})
    assert (settings.upstream, settings.accept_grace_ms, settings.prefixes) == (AGENT, 7, ("/a", "/b"))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        settings().upstream = "http://other"


def test_every_knob_says_what_it_is_for_in_one_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
