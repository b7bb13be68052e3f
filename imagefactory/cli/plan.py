"""imagefactory plan: which steps would run, and why."""

from typing import Annotated

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import RecipeFile, factory_session, read_recipe


def register(app: typer.Typer) -> None:
    app.command("plan", epilog="Example: imagefactory plan recipes/soe-debian-12.yaml")(plan)


@verb
def plan(
    recipe: RecipeFile,
    fresh: Annotated[bool, typer.Option("--fresh", help="As if nothing had been built before.")] = False,
    as_json: Json = False,
) -> None:
    """Show which steps a build would run, and why. Runs none of them."""
    with factory_session() as factory:
        actions = factory.plan(read_recipe(recipe, factory.settings), fresh=fresh)
    width = max(len(action.title) for action in actions)
    lines = [f"{'run ' if action.run else 'keep'}  {action.title:{width}}  {action.reason}" for action in actions]
    answer({"actions": [action.to_json() for action in actions]}, "\n".join(lines), as_json)
