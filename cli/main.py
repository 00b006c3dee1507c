"""The typer app: one command a verb."""

import importlib.metadata

import typer

from respool.cli.serve import add_serve
from respool.cli.wrap import add_run

app = typer.Typer(
    name="respool",
    help="Makes any Responses API agent resumable: background runs, stream replay, cancel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Its tables cut long names off where a terminal is narrow, and its markup swallows [env: ...].
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("respool"))
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Makes any Responses API agent resumable: background runs, stream replay, cancel."""


add_serve(app)
add_run(app)


def main() -> None:
    """Run the command line."""
    app()
