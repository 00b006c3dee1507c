"""The .sql files of the schema folder: named statements, and migrations in order."""

import re
from importlib.resources import files

_SCHEMA = files("respool.store") / "schema"
_NAME = re.compile(r"^-- name: (\w+)$\n(?:--.*\n)*", re.MULTILINE)


def statements(dialect: str) -> dict[str, str]:
    """The statements of `schema/<dialect>.sql` by their names."""
    _, *parts = _NAME.split((_SCHEMA / f"{dialect}.sql").read_text("utf-8"))
    return {name: statement.strip() for name, statement in zip(parts[::2], parts[1::2], strict=True)}


def migrations(dialect: str) -> list[str]:
    """The scripts `schema/<dialect>_NNN_*.sql`: the n-th leads from version n-1 to version n."""
    scripts = {file.name: file for file in _SCHEMA.iterdir() if re.fullmatch(rf"{dialect}_\d+_\w+\.sql", file.name)}
    return [scripts[name].read_text("utf-8") for name in sorted(scripts)]
