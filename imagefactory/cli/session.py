"""What the verbs that build begin with: a factory, a recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from imagefactory.cli.render import renderer
from imagefactory.factory.loop import Factory
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.settings import Settings, read_settings
from imagefactory.tools.elements import search_path
from imagefactory.tools.recipe_file import check_elements, load_recipe
from imagefactory.wiring import factory

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).", show_default=False, readable=False)
]


@contextmanager
def factory_session() -> Iterator[Factory]:
    """A factory that draws its progress."""
    with renderer() as progress, factory(read_settings(), progress) as made:
        yield made


def read_recipe(path: Path, settings: Settings) -> LoadedRecipe:
    """A recipe whose elements are known. Raises RecipeError."""
    loaded = load_recipe(path)
    check_elements(loaded, search_path(loaded.files[0], settings.elements_path))
    return loaded
