"""imagefactory recipe: look at recipes without building."""

import typer

from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.session import RecipeFile, read_recipe
from imagefactory.model.recipe import effective, recipe_schema
from imagefactory.settings import read_settings

app = typer.Typer(no_args_is_help=True, help="Recipes.")


@app.command("schema", epilog="Example: imagefactory recipe schema > recipe.schema.json")
@verb
def schema(as_json: Json = False) -> None:
    """Print the JSON Schema of a recipe, for editors."""
    del as_json  # a schema is JSON either way
    answer(recipe_schema(), "", as_json=True)


@app.command("check", epilog="Example: imagefactory recipe check recipes/soe-debian-12.yaml")
@verb
def check(recipe: RecipeFile, as_json: Json = False) -> None:
    """Check a recipe, and print it with every default filled in."""
    loaded = read_recipe(recipe, read_settings())
    if as_json:
        answer({"recipe": effective(loaded.recipe), "digest": loaded.digest}, "", as_json)
        return
    say(f"{loaded.files[0]}: {loaded.recipe.name}, sha256:{loaded.digest}")
