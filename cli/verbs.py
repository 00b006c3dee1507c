"""Every verb of the command line: where it is, what it does, and the screen that names them all.

A verb is loaded when it is called: a list of responses need not wait until a web server has been imported.
"""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Verb:
    """`place` is module:function; one whose name begins with add_ registers the verb itself."""

    place: str
    arguments: str
    summary: str


SERVING = {
    "serve": Verb("respool.cli.serve:add_serve", "", "serve in front of an agent"),
    "run": Verb("respool.cli.wrap:add_run", "-- CMD", "start an agent, and serve in front of it"),
}
LOOKING = {
    "ls": Verb("respool.cli.inspect.ls:ls", "", "list responses, newest first"),
    "show": Verb("respool.cli.inspect.show:show", "ID", "one response: its life, what was asked, what came of it"),
    "events": Verb("respool.cli.inspect.events:events", "ID", "its events as they are in the log"),
    "tail": Verb("respool.cli.inspect.tail:tail", "[ID]", "follow it while it is written"),
    "replay": Verb("respool.cli.inspect.replay:replay", "ID", "play it back at its own pace, or serve it as an agent"),
    "plot": Verb("respool.cli.inspect.plot:plot", "ID", "draw when its events came, and when none did"),
    "stats": Verb("respool.cli.inspect.stats:stats", "", "count the whole log: responses, sizes, times"),
    "check": Verb("respool.cli.inspect.check:check", "", "whether the log is whole"),
}
CHANGING = {
    "cancel": Verb("respool.cli.inspect.remove:cancel", "ID", "cancel a background response that runs"),
    "rm": Verb("respool.cli.inspect.remove:rm", "ID...", "delete responses that have ended"),
    "prune": Verb("respool.cli.inspect.prune:prune", "", "delete by age, status, user or size"),
    "vacuum": Verb("respool.cli.inspect.prune:vacuum", "", "give room that deletes have left back to the disk"),
    "export": Verb("respool.cli.inspect.transfer:export", "[ID...]", "write responses to a file, for import elsewhere"),
    "import": Verb("respool.cli.inspect.transfer:import_", "FILE", "take in what export wrote"),
}
VERBS = SERVING | LOOKING | CHANGING


EXIT_CODES = (
    "Exit codes: 0 done; 1 something broke, or was found wrong; 2 wrong options; 4 no log that can be used; "
    "5 no such response, or several; 6 no server, or it refused; 130 Ctrl-C."
)


class Verbs(TyperGroup):
    """The root: verbs that are loaded on demand."""

    # While words are completed on the command line, the names are enough.
    _names_only = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        return TyperCommand(cmd_name, help=verb.summary) if self._names_only else _loaded(cmd_name, verb)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self._names_only = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._names_only = False

    def get_help(self, ctx: Any) -> str:
        return screen()


def _loaded(name: str, verb: Verb) -> Any:
    module, _, function = verb.place.partition(":")
    found = getattr(import_module(module), function)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    if function.startswith("add_"):
        found(app)
    else:
        app.command(name, epilog=EXIT_CODES)(found)
    return typer.main.get_command(app)


def screen() -> str:
    """What `respool` says alone: everything that it can do, on one terminal of 80 by 24."""
    lines = [
        f"respool {importlib.metadata.version('respool')}: any Responses API agent resumable, and a look at its log"
    ]
    for title, verbs in (("Serve", SERVING), ("Look", LOOKING), ("Change", CHANGING)):
        lines += _verbs(title, verbs)
    lines.append("ID is an id, the beginning of one, or latest. COMMAND --help tells its options;")
    lines.append("also --version, --install-completion, --show-completion.")
    return "\n".join(lines)


def _verbs(title: str, verbs: dict[str, Verb]) -> Sequence[str]:
    return [title, *(f"  {f'{name} {verb.arguments}':<16}{verb.summary}" for name, verb in verbs.items())]
