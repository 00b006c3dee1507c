"""`export` and `import`: responses out of one log and into another, byte for byte."""

import asyncio
import json
import stat
import subprocess
from pathlib import Path

import pytest

from respool.cli.inspect.parcel import BadParcel, packed, read, written
from respool.store.base import Filter, Key
from respool.store.open import open_reader, open_store
from respool.store.status import Status
from tests.cli.command import RESPOOL, done, environment, respool
from tests.cli.written import Told, url_of, write, write_one
from tests.store.probe import chunk, end, head

Everything = list[tuple[object, ...]]


async def everything(path: Path) -> Everything:
    """All that a log remembers, newest first."""
    archive = await open_reader(url_of(path))
    found: Everything = []
    for each in await archive.list(Filter(limit=1_000)):
        page = await archive.read(each.key, -1, 1 << 30)
        found.append((each, page.chunks, page.ended, await archive.request(each.key), await archive.result(each.key)))
    await archive.close()
    return found


def test_what_was_exported_is_imported_as_it_was(stories: Path, tmp_path: Path) -> None:
    said = respool("export", "--output", str(tmp_path / "all.jsonl"), store=stories)
    assert (said.code, said.out, said.err) == (0, "", "5 responses exported\n")
    assert stat.S_IMODE((tmp_path / "all.jsonl").stat().st_mode) == 0o600
    said = done("import", str(tmp_path / "all.jsonl"), store=tmp_path / "copy.db")
    assert said.out == "5 responses imported\n1 without an end: the next `respool serve` ends them as failed\n"
    assert asyncio.run(everything(tmp_path / "copy.db")) == asyncio.run(everything(stories))


async def test_bytes_that_are_no_text_survive_too(tmp_path: Path) -> None:
    store = await open_store(url_of(tmp_path / "r.db"))
    await store.create(head(), b"\xff\xfe no text")
    await store.append(head().key, 1, chunk(0, b"event: a\ndata: \xed\xa0\x80\n\n", b"plain", b"\xc3\xa9 caf\xc3\xa9"))
    await store.append(head().key, 1, None, end=end(result=b"\x00\xff"))
    await store.close()
    archive = await open_reader(url_of(tmp_path / "r.db"))
    parcel = await packed(archive, head().key)
    await archive.close()
    assert read(written(parcel)) == parcel
    assert parcel.result == b"\x00\xff"


def test_what_is_there_already_stays_and_is_named(stories: Path, tmp_path: Path) -> None:
    lines = respool("export", store=stories).out
    (tmp_path / "all.jsonl").write_text(lines)
    done("import", str(tmp_path / "all.jsonl"), store=tmp_path / "copy.db")
    before = asyncio.run(everything(tmp_path / "copy.db"))
    said = respool("import", str(tmp_path / "all.jsonl"), store=tmp_path / "copy.db")
    assert (said.code, said.out) == (1, "0 responses imported\n")
    named = "respool: line 1: caresp_aaa1 of x-agent-user-id=ann is there already, and stays as it is"
    assert said.err.splitlines()[0] == named
    said = done("import", "--skip-existing", str(tmp_path / "all.jsonl"), store=tmp_path / "copy.db")
    assert said.out == "0 responses imported\n5 responses there already\n"
    assert asyncio.run(everything(tmp_path / "copy.db")) == before


def test_lines_that_are_damaged_are_left_out_whole(stories: Path, tmp_path: Path) -> None:
    good, other, *_ = respool("export", store=stories).lines
    half = json.loads(other)
    half["chunks"].pop(1)
    newer = {**json.loads(other), "respool": 2}
    text = "\n".join([good, json.dumps(half), "", "{", json.dumps(newer), '{"a":1}', good[:300]])
    (tmp_path / "bad.jsonl").write_text(text)
    said = respool("import", str(tmp_path / "bad.jsonl"), store=tmp_path / "copy.db")
    assert (said.code, said.out) == (1, "1 response imported\n")
    assert [line.split(": ")[1] for line in said.err.splitlines()] == ["line 2", "line 4", "line 5", "line 6", "line 7"]
    assert "not whole: it has" in said.err
    assert "use a newer one" in said.err
    assert len(asyncio.run(everything(tmp_path / "copy.db"))) == 1


def test_a_part_is_exported_by_id_or_filter(stories: Path) -> None:
    def exported(*arguments: str) -> list[str]:
        return [json.loads(line)["head"]["id"] for line in respool("export", *arguments, store=stories).lines]

    assert exported("caresp_aaa2", "latest") == ["caresp_aaa2", "caresp_ccc1"]
    assert exported("--user", "ann") == ["caresp_aaa1", "caresp_bbb1"]
    assert exported("--status", "failed") == ["caresp_aaa2"]


def test_one_response_is_exported_as_one_object(stories: Path) -> None:
    value = json.loads(done("export", "caresp_aaa1", "--json", store=stories).out)
    assert value["request"]["input"] == "Weather in Köln?"
    assert value["response"]["status"] == "completed"
    said = respool("export", "--json", store=stories)
    assert (said.code, said.err) == (2, "respool: --json writes one response: say its ID\n")


def test_an_export_never_writes_over_a_file(stories: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    said = respool("export", "-o", str(tmp_path / "there"), store=stories)
    assert (said.code, "is there already" in said.err) == (2, True)
    assert (tmp_path / "there").read_text() == "mine"
    assert respool("export", "nope", "-o", str(tmp_path / "new"), store=stories).code == 5
    assert [file.name for file in tmp_path.iterdir()] == ["there"]


def test_an_empty_log_is_exported_as_nothing_and_imported_as_nothing(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text(respool("export", store=empty).out)
    assert done("import", str(tmp_path / "none.jsonl"), store=tmp_path / "copy.db").out == "0 responses imported\n"


def test_an_export_can_be_piped_into_an_import(stories: Path, tmp_path: Path) -> None:
    command = " ".join(RESPOOL)
    line = f"{command} export | {command} import - --store {url_of(tmp_path / 'copy.db')}"
    said = subprocess.run(["bash", "-c", line], capture_output=True, env=environment(stories), check=True, text=True)
    assert said.stdout.startswith("5 responses imported\n")


async def test_a_log_that_is_served_takes_no_import(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    store = await open_store(url_of(tmp_path / "r.db"), served_at="http://127.0.0.1:9")
    said = respool("import", str(tmp_path / "none.jsonl"), store=tmp_path / "r.db")
    await store.close()
    assert said.code == 4
    assert "at http://127.0.0.1:9; this needs the log for itself, so stop the server first" in said.err


async def test_a_response_is_exported_while_it_is_written(tmp_path: Path) -> None:
    store = await open_store(url_of(tmp_path / "r.db"))
    await write_one(store, Told("caresp_1", status=Status.IN_PROGRESS))
    archive = await open_reader(url_of(tmp_path / "r.db"))
    parcel = await packed(archive, Key("", "caresp_1"))
    await archive.close()
    await store.close()
    assert (parcel.head.last_seq, parcel.chunks[-1].last, parcel.end) == (7, 7, None)


async def test_the_order_of_many_responses_stays(tmp_path: Path) -> None:
    await write(tmp_path / "r.db", [Told(f"caresp_{n}", output=[]) for n in range(200)], batch=1)
    text = respool("export", store=tmp_path / "r.db").out
    (tmp_path / "all.jsonl").write_text(text)
    done("import", str(tmp_path / "all.jsonl"), store=tmp_path / "copy.db")
    assert await everything(tmp_path / "copy.db") == await everything(tmp_path / "r.db")


@pytest.mark.parametrize("value", ["[]", '{"respool":1}', '{"respool":1,"head":5}', '{"respool":"1"}'])
def test_what_is_no_export_is_told_so(value: str) -> None:
    with pytest.raises(BadParcel):
        read(value.encode())
