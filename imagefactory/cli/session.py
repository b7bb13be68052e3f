"""What most verbs begin with: settings, a renderer, a factory, a recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import PydanticCustomError

from imagefactory.cli.render import renderer
from imagefactory.errors import UsageError
from imagefactory.factory.loop import Factory
from imagefactory.model.quantity import parse_size
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.release import Version
from imagefactory.progress import Progress
from imagefactory.settings import Settings, read_settings
from imagefactory.steps.verify import Expectation
from imagefactory.tools.elements import search_path
from imagefactory.tools.recipe_file import check_elements, load_recipe
from imagefactory.wiring import factory
from signing.trust import find_trust, load_trust

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).", show_default=False)]
TrustFile = Annotated[
    Path | None,
    typer.Option("--trust", help="The trust file. Default: IMAGEFACTORY_TRUST, then HOME/trust.json, then /etc."),
]


@contextmanager
def factory_session() -> Iterator[Factory]:
    """A factory that draws its progress."""
    with renderer() as progress, factory(read_settings(), progress) as made:
        yield made


@contextmanager
def progress_session() -> Iterator[tuple[Settings, Progress]]:
    """Settings and a renderer, for verbs that need no records."""
    with renderer() as progress:
        yield read_settings(), progress


def read_recipe(path: Path, settings: Settings) -> LoadedRecipe:
    """A recipe whose elements are known. Raises RecipeError."""
    loaded = load_recipe(path)
    check_elements(loaded, search_path(loaded.files[0], settings.elements_path))
    return loaded


def expectation(
    settings: Settings, trust: Path | None = None, name: str | None = None, min_version: str | None = None
) -> Expectation:
    """What verification expects: the trust file of these settings, and what the user pinned.

    Raises NoTrustRoot, TrustInvalid, ReleaseNameInvalid.
    """
    found = load_trust(find_trust(settings.trust_files(trust)))
    oldest = Version.parse(min_version) if min_version else None
    return Expectation(found, datetime.now(UTC), name=name, min_version=oldest)


def size_option(flag: str, text: str) -> int:
    """A size such as "4 GiB" from an option, in bytes. Raises UsageError."""
    try:
        return parse_size(text)
    except PydanticCustomError as error:
        raise UsageError(f"{flag}: {error.message()}") from error
