"""The screens in the documents are what the program draws."""

from pathlib import Path

import pytest

from tests.cli.draw import pictures

SCREENS = Path(__file__).resolve().parents[2] / "docs" / "screens"


def test_the_screens_of_the_documents_are_what_the_command_draws_today() -> None:
    drawn = pictures()
    assert {file.name for file in SCREENS.glob("*.svg")} == set(drawn)
    for name, picture in drawn.items():
        if (SCREENS / name).read_text(encoding="utf-8") != picture:
            pytest.fail(f"{name} is out of date: make screens")
