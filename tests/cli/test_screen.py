"""What a person sees first: `respool` alone, help, and completion in a shell."""

from pathlib import Path

import pytest

from respool.cli.verbs import SERVING, VERBS, screen
from tests.cli.command import done, on_a_terminal, respool, started


def test_respool_alone_shows_everything_on_one_terminal() -> None:
    said = done()
    assert said.out == done("--help").out == screen() + "\n"
    assert len(said.lines) <= 22  # with a prompt before and behind
    assert max(map(len, said.lines)) <= 80
    for name, verb in VERBS.items():
        assert any(line.split()[:1] == [name] and line.endswith(verb.summary) for line in said.lines)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    said = done(verb, "--help")
    assert said.out.startswith(f"Usage: respool {verb} ")
    assert "--store" in said.out
    assert "Exit codes: 0 done;" in said.out or verb in SERVING


def test_an_unknown_verb_is_told_so() -> None:
    said = respool("lst")
    assert (said.code, "No such command 'lst'" in said.err) == (2, True)


def test_a_shell_completes_verbs_and_ids(stories: Path) -> None:
    def completed(line: str, word: int) -> list[str]:
        asking = {"_RESPOOL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(word)}
        return started(store=stories, **asking).out.split()

    assert completed("respool s", 1) == ["serve", "show", "stats"]
    assert completed("respool show caresp_b", 2) == ["caresp_bbb1", "caresp_bbb1"]
    assert "--watch" in completed("respool ls --w", 2)


def test_help_is_read_on_a_narrow_terminal_too() -> None:
    assert max(map(len, on_a_terminal("ls", "--help", width=60).splitlines())) <= 60
