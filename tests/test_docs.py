"""The README says what the code does."""

from pathlib import Path

import pytest

from respool.proxy.settings import Settings

README = Path(__file__).resolve().parents[1] / "README.md"


def options_table() -> str:
    """The table of options as the README must have it."""
    rows = ["| option, variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.is_required() or field.default is None else field.default
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        option = f"`--{name.replace('_', '-')}` `RESPOOL_{name.upper()}`"
        rows.append(f"| {option} | {f'`{shown}`' if shown else ''} | {field.description} |")
    return "\n".join(rows)


@pytest.mark.skipif(not README.exists(), reason="the README is not beside an installed wheel")
def test_the_readme_lists_every_option_with_its_default() -> None:
    text = README.read_text(encoding="utf-8")
    stated = text.partition("tests/test_docs.py -->\n")[2].partition("\n<!-- end of options -->")[0]
    assert stated == options_table()
