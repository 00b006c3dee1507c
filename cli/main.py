"""The typer app: one command a verb."""

import importlib.metadata

import typer

from respool.cli.verbs import Verbs, screen

app = typer.Typer(
    name="respool",
    cls=Verbs,
    help="Makes any Responses API agent resumable: background runs, stream replay, cancel.",
    invoke_without_command=True,
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
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Makes any Responses API agent resumable: background runs, stream replay, cancel."""
    if context.invoked_subcommand is None:
        typer.echo(screen())


def main() -> None:
    """Run the command line."""
    app(prog_name="respool")
