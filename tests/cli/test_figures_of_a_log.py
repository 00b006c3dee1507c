"""`stats`, `check` and `plot`: a log, and one response of it, in figures."""

import json
import sqlite3
import xml.etree.ElementTree as ElementTree
from contextlib import closing
from pathlib import Path

import pytest

from respool.cli.inspect.stats import percentile
from respool.store.base import Head, Key
from respool.store.open import open_store
from respool.store.status import Status
from tests.cli.command import done, respool, started
from tests.cli.written import BEGIN_MS, Told, message, url_of, write

SLOW = Told("caresp_slow", output=[message("one"), message("two")], waits_ms=10_000)


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """Ten that completed, the n-th with its first token n seconds after the POST, one that failed, and one live."""
    told = [Told(f"caresp_{n}", created_ms=BEGIN_MS + n, waits_ms=n * 1_000 - 100) for n in range(1, 11)]
    told += [
        Told("caresp_failed", "x-agent-user-id=ann", status=Status.FAILED, output=[]),
        Told("caresp_live", status=Status.IN_PROGRESS, output=[]),
    ]
    await write(tmp_path / "r.db", told)
    return tmp_path / "r.db"


# stats


def test_a_log_is_counted_and_measured(log: Path) -> None:
    value = json.loads(done("stats", "--json", store=log).out)
    assert (value["responses"], value["owners"], value["measured"]) == (12, 2, 11)
    assert value["by_status"] == {
        "queued": 0,
        "in_progress": 1,
        "completed": 10,
        "failed": 1,
        "incomplete": 0,
        "cancelled": 0,
    }
    assert value["first_output_ms"] == {"p50": 5_000, "p90": 9_000, "p99": 10_000, "p100": 10_000}
    assert value["duration_ms"]["p50"] == 5_500
    assert value["events"] == 10 * 9 + 3 + 2
    assert value["bytes"]["on_disk"] >= log.stat().st_size


def test_a_measure_is_of_the_newest(log: Path) -> None:
    value = json.loads(done("stats", "--json", "--measure", "3", store=log).out)
    assert (value["measured"], value["first_output_ms"]["p50"]) == (3, 9_000)  # the failed one has none
    out = done("stats", store=log).out
    assert "12 responses of 2 users" in out
    assert "first token" in out


def test_an_empty_log_has_figures_too(empty: Path) -> None:
    assert done("stats", store=empty).lines[0] == "0 responses of 0 users"
    assert json.loads(done("stats", "--json", store=empty).out)["duration_ms"] is None


def test_a_percentile_is_a_value_that_was_there() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (1, 25, 26, 50, 99, 100)] == [1, 1, 2, 2, 4, 4]
    assert percentile([7], 50) == 7


# check


async def test_a_whole_log_is_found_whole(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [Told("caresp_1"), Told("caresp_2", status=Status.CANCELLED)])
    said = done("check", store=tmp_path / "r.db")
    assert "ok       every one of 2 ended responses has its end as its last event" in said.out
    assert json.loads(done("check", "--json", store=tmp_path / "r.db").out)["ok"] is True


def test_an_empty_log_is_whole(empty: Path) -> None:
    assert done("check", store=empty).code == 0


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM chunk WHERE run = 3 AND last = 2", "caresp_3: its events go on at 3 where 2 is expected"),
        (
            "DELETE FROM chunk WHERE run = 3 AND last = 8",
            "caresp_3: it has ended, and its last event is not an end",
        ),
        ("DELETE FROM result WHERE run = 3", "caresp_3: it has ended without a final object"),
    ],
)
def test_damage_is_named_and_is_an_exit_code(log: Path, statement: str, words: str) -> None:
    with closing(sqlite3.connect(log)) as db, db:
        db.execute(statement)
    said = respool("check", store=log)
    assert said.code == 1
    assert f"fault    {words}" in said.out
    value = json.loads(respool("check", "--json", store=log).out)
    assert value["ok"] is False
    assert {"caresp_3", "caresp_live"} == {f["id"] for f in value["findings"] if f["level"] == "fault"}


async def test_an_orphan_is_a_fault_unless_somebody_serves_it(log: Path) -> None:
    said = respool("check", store=log)
    assert said.code == 1
    assert "fault    caresp_live: an orphan: it has no end, and no server is running; the next one ends it" in said.out
    store = await open_store(url_of(log), served_at="http://127.0.0.1:1")
    said = respool("check", store=log)
    await store.close()
    assert (said.code, "1 under way, and process" in said.out) == (0, True)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"no database" * 100)
    said = respool("check", store=tmp_path / "r.db")
    assert said.code == 4
    assert "is not a SQLite database" in said.err
    assert len(said.err.splitlines()) == 1


# plot


async def test_a_plot_shows_where_the_agent_was_silent(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [SLOW])
    out = done("plot", "latest", store=tmp_path / "r.db", COLUMNS="80").out
    assert "9 events in 10.6s, first token after 10.1s" in out
    assert "silent for 9.95s after event 1, from +50ms on" in out
    bars = out.splitlines()[2:8]
    assert all(line[15:60].strip() == "" for line in bars)
    assert max(map(len, out.splitlines())) <= 80


async def test_a_plot_as_svg_is_a_picture_with_a_bar_for_each_time_that_events_came(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [SLOW])
    assert done("plot", "latest", "--svg", str(tmp_path / "a.svg"), store=tmp_path / "r.db").out == ""
    picture = ElementTree.parse(tmp_path / "a.svg")
    kinds = [element.get("class") for element in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert kinds.count("q") == 1
    assert kinds.count("b") == 8
    assert kinds.count("l") == 2


async def test_a_plot_as_json_has_every_arrival(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [SLOW])
    value = json.loads(done("plot", "latest", "--json", store=tmp_path / "r.db").out)
    assert [row[0] for row in value["arrivals"]] == [50, 10_000, 10_100, 10_200, 10_300, 10_400, 10_500, 10_600]
    assert value["silences"] == [{"from_ms": 50, "until_ms": 10_000, "after": 1}]
    assert [(item["from_ms"], item["until_ms"]) for item in value["items"]] == [(10_000, 10_200), (10_300, 10_500)]


async def test_a_response_without_an_event_can_be_plotted(tmp_path: Path) -> None:
    store = await open_store(url_of(tmp_path / "r.db"))
    await store.create(Head(Key("", "caresp_1"), Status.QUEUED, True, True, 1, b"{}"), b"")
    await store.close()
    assert "0 events in 0ms" in done("plot", "latest", store=tmp_path / "r.db").out
    assert "no output" in done("show", "latest", store=tmp_path / "r.db").out


# The command as it is installed


@pytest.mark.parametrize("arguments", [("--version",), ("check", "--json")])
def test_the_command_runs_as_a_process(empty: Path, arguments: tuple[str, ...]) -> None:
    assert started(*arguments, store=empty).code == 0
