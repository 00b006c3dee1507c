"""`ls`, `show`, `events` and `tail` on a store that nobody serves."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from respool.store.open import open_store
from tests.cli.command import RESPOOL, done, on_a_terminal, respool
from tests.cli.conftest import EVIL, STORIES
from tests.cli.written import Told, call, chunks_of, url_of, write, write_one

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def ids(*arguments: str, store: Path) -> list[str]:
    return [json.loads(line)["id"] for line in done("ls", "--json", *arguments, store=store).lines]


# ls


def test_a_list_tells_of_each_response_newest_first(stories: Path) -> None:
    heading, *rows = done("ls", store=stories).lines
    assert heading.split() == ["ID", "AGE", "STATUS", "USER", "MODEL", "EVENTS", "TOOK", "TOK/S", "INPUT"]
    assert [row.split()[0] for row in rows] == [told.id for told in reversed(STORIES)]
    assert re.fullmatch(r"caresp_aaa1 +2h +completed +ann +gpt-5-mini +9 +1\.00s +\d+\.\d +Weather in Köln\?", rows[-1])


def test_the_filters_of_a_list_find_what_they_say(stories: Path) -> None:
    assert ids("--status", "failed", store=stories) == ["caresp_aaa2"]
    assert ids("--user", "ann", store=stories) == ["caresp_bbb1", "caresp_aaa1"]
    assert ids("--user", "x-agent-user-id=ann", store=stories) == ["caresp_bbb1", "caresp_aaa1"]
    assert ids("--user", "", store=stories) == ["caresp_ccc1"]
    assert ids("--model", "O4", "--limit", "1", store=stories) == ["caresp_bbb1"]
    assert ids("--older", "5m", store=stories) == ["caresp_aaa2", "caresp_aaa1"]
    assert ids("--newer", "1h", "--older", "5m", store=stories) == ["caresp_aaa2"]
    assert ids("--text", "köln", store=stories) == ["caresp_aaa1"]  # the request has it as \u00f6
    assert ids("-n", "2", store=stories) == ["caresp_ccc1", "caresp_bbb1"]


def test_a_list_as_json_is_one_object_a_line(stories: Path) -> None:
    rows = [json.loads(line) for line in done("ls", "--json", store=stories).lines]
    first, last = rows[0], rows[-1]
    assert (first["status"], first["ended_at_ms"], first["output_tokens"]) == ("in_progress", None, None)
    assert {key: last[key] for key in ("owner", "events", "duration_ms", "input")} == {
        "owner": "x-agent-user-id=ann",
        "events": 9,
        "duration_ms": 1_000,
        "input": "Weather in Köln?",
    }


def test_an_empty_store_has_an_empty_list(empty: Path) -> None:
    assert done("ls", store=empty).out == "no responses\n"
    assert done("ls", "--json", store=empty).out == ""


def test_a_narrow_terminal_shows_less_and_breaks_no_line(stories: Path) -> None:
    for width in (80, 20):
        lines = plain(on_a_terminal("ls", store=stories, width=width)).splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) == 1 + len(STORIES)
        assert lines[0].startswith("ID")


# Ids


def test_the_beginning_of_an_id_is_enough(stories: Path) -> None:
    assert done("show", "caresp_c", store=stories).out.startswith("caresp_ccc1")
    assert done("show", "caresp_c…", store=stories).out.startswith("caresp_ccc1")
    for newest in ("latest", "-"):
        assert done("show", newest, store=stories).out.startswith("caresp_ccc1")
    assert done("show", "-", "--user", "ann", store=stories).out.startswith("caresp_bbb1")


def test_a_beginning_of_several_ids_lists_them(stories: Path) -> None:
    said = respool("show", "caresp_a", store=stories)
    assert (said.code, said.out) == (5, "")
    assert said.err.splitlines() == [
        "respool: caresp_a begins several ids: say more of",
        "respool:   caresp_aaa2  --user x-agent-user-id=bob",
        "respool:   caresp_aaa1  --user x-agent-user-id=ann",
    ]


def test_an_id_of_two_owners_asks_whose(stories: Path) -> None:
    said = respool("show", "caresp_bbb1", store=stories)
    assert said.code == 5
    assert "belongs to several users" in said.err
    assert "Book a flight" in done("show", "caresp_bbb1", "--user", "bob", store=stories).out


async def test_a_whole_id_is_meant_even_if_a_longer_one_begins_with_it(tmp_path: Path) -> None:
    await write(
        tmp_path / "r.db", [Told("caresp_1"), Told("caresp_12"), *(Told(f"caresp_1{n}") for n in range(30, 50))]
    )
    said = done("show", "caresp_1", "--json", store=tmp_path / "r.db")
    assert json.loads(said.out)["id"] == "caresp_1"


@pytest.mark.parametrize("arguments", [("show", "nope"), ("events", "nope"), ("tail", "nope")])
def test_an_unknown_id_is_one_line_and_a_code(stories: Path, arguments: tuple[str, ...]) -> None:
    said = respool(*arguments, store=stories)
    assert (said.code, said.out) == (5, "")
    assert said.err == "respool: no response has the id nope: `respool ls` lists what there is\n"


def test_the_newest_of_an_empty_store_is_none(empty: Path) -> None:
    said = respool("show", "latest", store=empty)
    assert (said.code, said.err) == (5, "respool: there is no response yet\n")


# show


def test_one_response_is_told_as_a_story(stories: Path) -> None:
    out = done("show", "caresp_bbb1", "--user", "ann", store=stories).out
    assert re.search(r"\+50ms +0 +response\.created\b", out)
    assert re.search(r"\+400ms +2 +reasoning +for 400ms, 3 deltas, 16 characters\n", out)
    assert re.search(r"\+500ms +first token\n", out)
    assert re.search(r"function_call book +for 200ms, 1 delta, 11 characters\n", out)
    assert '  reasoning\n    They are hungry.\n  function_call book\n    {"seats":2}\n' in out
    assert "  message assistant\n    Done.\n    Enjoy it!\n" in out
    assert "agent's id   resp_own" in out
    assert "10 input, " in out


def test_one_response_as_json_has_the_whole_request_and_response(stories: Path) -> None:
    value = json.loads(done("show", "caresp_aaa1", "--json", store=stories).out)
    assert (value["first_output_ms"], value["duration_ms"], value["events"]) == (500, 1_000, 9)
    assert value["request"] == {"model": "gpt-5-mini", "input": "Weather in Köln?", "stream": True}
    assert value["response"]["output"][0]["content"][0]["text"] == "Once upon a time"
    assert [step["type"] for step in value["steps"]] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert value["longest_silence"]["ms"] == 350


def test_a_response_under_way_shows_what_there_is_of_it(stories: Path) -> None:
    out = done("show", "caresp_ccc1", store=stories).out
    assert "Output so far\n  message assistant\n    Once upon a time\n" in out
    assert "still under way" in out


# events


def test_the_events_are_what_is_in_the_log(stories: Path) -> None:
    frames = b"".join(chunk.data for chunk in chunks_of(STORIES[0])).decode()
    assert done("events", "caresp_aaa1", "--raw", store=stories).out == frames


def test_events_are_chosen_by_number_type_and_count(stories: Path) -> None:
    lines = done("events", "caresp_aaa1", "--after", "3", "--type", "delta", "--limit", "2", store=stories).lines
    assert [line.split("\t")[:3] for line in lines] == [
        ["4", "+600ms", "response.output_text.delta"],
        ["5", "+700ms", "response.output_text.delta"],
    ]
    rows = [json.loads(line) for line in done("events", "caresp_aaa1", "--json", "-a", "6", store=stories).lines]
    assert [row["sequence_number"] for row in rows] == [7, 8]
    assert rows[0]["at_ms"] == STORIES[0].created_ms + 900
    assert rows[1]["data"]["response"]["status"] == "completed"


# tail


def test_a_stream_that_has_ended_is_told_as_text(stories: Path) -> None:
    out = done("tail", "caresp_bbb1", "--user", "ann", store=stories).out
    assert out == ('[reasoning]\nThey are hungry.\n[function_call book]\n{"seats":2}\nDone.\nEnjoy it!\n[completed]\n')


# What a terminal must not be made to do


@pytest.mark.parametrize(
    "verb", [("ls",), ("show",), ("events",), ("events", "--raw"), ("events", "--json"), ("tail",)]
)
def test_nothing_that_a_user_or_an_agent_says_steers_the_terminal(stories: Path, verb: tuple[str, ...]) -> None:
    which = () if verb == ("ls",) else ("caresp_aaa2",)
    shown = plain(on_a_terminal(*verb, *which, store=stories, width=3_000, height=100))
    assert "owned" in shown
    assert STEERING.findall(shown) == []
    assert EVIL[-4] not in shown


def test_colour_is_for_terminals_and_for_those_who_want_it(stories: Path) -> None:
    assert "\x1b[" in on_a_terminal("ls", store=stories)
    colours = re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", on_a_terminal("ls", store=stories, NO_COLOR="1"))
    assert colours == []
    assert "\x1b" not in done("ls", store=stories).out


def plain(text: str) -> str:
    """Without the colours that respool itself has put there."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# Where it looks


def test_a_log_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    said = respool("ls", store=tmp_path / "no.db")
    assert said.code == 4
    assert said.err == (
        f"respool: there is no log at {tmp_path}/no.db: say --store sqlite:///FILE, or --url for a running server\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ls", "--status", "done"), "--status is one of queued,"),
        (("ls", "--newer", "soon"), "'soon' is no length of time: say 90s, 30m"),
        (("ls", "--watch"), "--watch draws on a terminal"),
        (("ls", "--url", "localhost:8080"), "is no http:// or https:// URL"),
        (("ls", "--store", "memory:"), "can be read through its server alone"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    said = respool(*arguments)
    assert said.code in (2, 4)
    assert len(said.err.splitlines()) == 1
    assert words in said.err


def test_a_reader_that_has_seen_enough_may_leave(stories: Path) -> None:
    command = f"{' '.join(RESPOOL)} events caresp_aaa1 --store {url_of(stories)} | head -n 1; echo $?"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("\n0\n")
    assert "Traceback" not in done.stderr


async def test_a_call_and_a_text_of_a_store_beside_its_server_are_read(tmp_path: Path) -> None:
    store = await open_store(url_of(tmp_path / "r.db"))
    await write_one(store, Told("caresp_1", output=[call("look", "{}")]))
    said = done("ls", "--json", store=tmp_path / "r.db")
    await store.close()
    assert json.loads(said.out)["id"] == "caresp_1"
