"""Numbers as people read and type them, tables that fit, and text that cannot steer."""

import pytest
from rich.cells import cell_len

from respool.cli.inspect import figures, harmless
from respool.cli.inspect.columns import Cell, Column, table
from respool.cli.inspect.entry import short_ids


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (None, "-"),
        (0, "0ms"),
        (999, "999ms"),
        (999.6, "1.00s"),
        (9_994, "9.99s"),
        (9_996, "10.0s"),
        (59_949, "59.9s"),
        (59_951, "1m00s"),
        (3_599_000, "59m59s"),
        (3_600_000, "1h00m"),
        (48 * 3_600_000, "2d00h"),
        (-5, "-5ms"),
    ],
)
def test_a_length_of_time_is_short(ms: float | None, words: str) -> None:
    assert figures.length(ms) == words


@pytest.mark.parametrize(
    ("ms", "words"), [(-1, "0s"), (59_999, "59s"), (60_000, "1m"), (7_199_000, "119m"), (7_200_000, "2h"), (2e8, "2d")]
)
def test_an_age_is_coarse(ms: float, words: str) -> None:
    assert figures.age(ms) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1_000, "1.0 KiB"), (2**20, "1.0 MiB"), (5e12, "4657 GiB")],
)
def test_a_size_has_a_unit(count: float | None, words: str) -> None:
    assert figures.size(count) == words


def test_lengths_and_sizes_are_read_as_people_type_them() -> None:
    assert [figures.milliseconds(text) for text in ("90s", "1d12h", "0.5h", "20ms")] == [
        90_000,
        129_600_000,
        1_800_000,
        20,
    ]
    assert [figures.size_in_bytes(text) for text in ("10", "1K", "1.5M", "2GiB")] == [10, 1024, 1_572_864, 2**31]
    for text in ("", "10", "h", "1h nonsense", "-1h"):
        with pytest.raises(ValueError, match="no length of time"):
            figures.milliseconds(text)
    for text in ("", "ten", "-1", "1x"):
        with pytest.raises(ValueError, match="no size"):
            figures.size_in_bytes(text)


COLUMNS = (Column("ID", 9), Column("N", 1, right=True), Column("TEXT", 5))
ROWS = [[Cell("one"), Cell("1"), Cell("短い文章です、そして続く")], [Cell("fourteen"), Cell("12,345"), Cell("a\x1bb")]]


@pytest.mark.parametrize("width", range(1, 60))
def test_no_line_of_a_table_is_wider_than_the_screen(width: int) -> None:
    lines = [line.plain for line in table(COLUMNS, ROWS, width)]
    assert len(lines) == 3
    assert max(cell_len(line) for line in lines) <= width


def test_what_matters_least_is_left_out_first() -> None:
    def heads(width: int) -> list[str]:
        return next(iter(table(COLUMNS, ROWS, width))).plain.split()

    assert heads(60) == ["ID", "N", "TEXT"]
    assert heads(24) == ["ID", "TEXT"]
    assert heads(12) == ["ID"]


def test_ids_are_cut_where_they_begin_to_differ() -> None:
    ids = ["caresp_0000000000000000a1", "caresp_0000000000000000b1", "caresp_1", "caresp_2" + "0" * 40]
    assert short_ids(ids) == {
        ids[0]: ids[0],  # an ellipsis would be no shorter
        ids[1]: ids[1],
        ids[2]: "caresp_1",
        ids[3]: "caresp_200000000…",
    }


def test_what_steers_a_terminal_is_shown_instead() -> None:
    assert harmless.line("a\x1b[31m\n\x9b\u202e\x00\ud800é") == "a\\x1b[31m\\x0a\\x9b\\u202e\\x00\\ud800é"
    assert harmless.block("a\r\nb\tc\rd") == "a\nb\tc\\x0dd"
    assert harmless.json('{"a":"\x9b\u202e\x7f"}') == '{"a":"\\u009b\\u202e\\u007f"}'
