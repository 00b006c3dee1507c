"""Options of commands that are made from Settings: one for each field, its variable, and what is wrong with it."""

import inspect
import sys
from collections.abc import Iterable
from typing import Any, Literal, NoReturn, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from respool.proxy.keys import UnusableKeys, read_keys
from respool.proxy.settings import Settings

WRONG_OPTIONS = 2


def settings_parameters(defaults: dict[str, str] | None = None) -> list[inspect.Parameter]:
    """The options of all settings, for the signature of a command; `defaults` are shown in place of the fields' own."""
    defaults = defaults or {}
    return [_parameter(name, field, defaults.get(name)) for name, field in Settings.model_fields.items()]


def give_signature(command: Any, parameters: Iterable[inspect.Parameter]) -> None:
    """Let typer see these parameters on a function that takes keywords."""
    command.__signature__ = inspect.Signature(list(parameters))
    command.__annotations__ = {
        parameter.name: parameter.annotation for parameter in command.__signature__.parameters.values()
    }


def settings_of(options: dict[str, Any]) -> Settings:
    """Settings of the options that were given; the others come from their variables. Leaves with 2 if one is wrong."""
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        leave(WRONG_OPTIONS, *_complaints(error))
    if settings.api_key_file is not None:
        try:
            read_keys(settings.api_key_file)
        except UnusableKeys as error:
            leave(WRONG_OPTIONS, f"--api-key-file (RESPOOL_API_KEY_FILE): {error}")
    return settings


def leave(code: int, *lines: str) -> NoReturn:
    """Say why on standard error, and end the command with this exit code."""
    for line in lines:
        print(f"respool: {line}", file=sys.stderr)
    raise typer.Exit(code)


def _parameter(name: str, field: FieldInfo, default: str | None) -> inspect.Parameter:
    shown = default if default is not None else _shown(field.default)
    words = f"{field.description} [env: RESPOOL_{name.upper()}]" + (f" [default: {shown}]" if shown != "" else "")
    option = typer.Option(None, f"--{name.replace('_', '-')}", help=words, show_default=False, metavar=_metavar(field))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=str | None)


def _shown(default: Any) -> Any:
    if default in (None, PydanticUndefined):
        return ""
    return ", ".join(default) if isinstance(default, tuple) else default


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    return "INTEGER" if field.annotation is int else "NUMBER" if field.annotation is float else "TEXT"


def _complaints(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        words = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            words = "is required"
        lines.append(f"--{name.replace('_', '-')} (RESPOOL_{name.upper()}): {words}")
    return lines
