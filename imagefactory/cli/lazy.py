"""Verbs that are imported when they are called, and not to be listed.

To read every verb takes several times as long as most of them do. So a group knows the name of each and the line that
`--help` and the shell's completion say of it, and imports its module when somebody calls it or asks it for more.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    Found = tuple[str | None, Any, list[str]]


def group_of(verbs: Mapping[str, str], module: Callable[[str], str]) -> type[TyperGroup]:
    """A kind of group with `verbs`, a line on each by its name. `module` names what has it: a module with an `app` of
    that name, or with `register`, which puts the verb into one."""

    class LazyGroup(TyperGroup):
        """Only what is called is imported."""

        def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - typer's
            super().__init__(**attributes)
            for name, line in verbs.items():
                self.add_command(TyperCommand(name, help=line))

        def resolve_command(self, ctx: Any, args: list[str]) -> "Found":  # noqa: ANN401 - of a private module
            if args[0] in verbs:
                self.add_command(load(module(args[0]), args[0]), args[0])
            return super().resolve_command(ctx, args)

    return LazyGroup


def load(module: str, name: str) -> Any:  # noqa: ANN401 - a command of typer's, whose type is private
    """The verb or the group of verbs `name`, which `module` has."""
    found = import_module(module)
    app = typer.Typer(rich_markup_mode=None)
    if hasattr(found, "app"):
        app.add_typer(found.app, name=name)
    else:
        found.register(app)
    return typer.main.get_group(app).commands[name]
