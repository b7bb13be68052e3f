"""What the verbs that build begin with: a factory, a recipe."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagefactory.cli.render import renderer, undisturbed
from imagefactory.progress import Progress
from imagefactory.settings import Settings, read_settings
from signing.errors import PassphraseMissing

if TYPE_CHECKING:
    from imagefactory.factory.loop import Factory
    from imagefactory.model.recipe import LoadedRecipe
    from imagefactory.tools.passphrase import Ask

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).", show_default=False, readable=False)
]


PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="A file with the passphrase of the keys. Default: IMAGEFACTORY_PASSPHRASE_FILE, the keyring, or a prompt.",
        show_default=False,
        readable=False,
    ),
]


def factory(settings: Settings, progress: Progress) -> AbstractContextManager["Factory"]:
    """A factory at the home of these settings, as `wiring.factory` makes it."""
    from imagefactory import wiring  # noqa: PLC0415 - everything that can be made hangs on it

    return wiring.factory(settings, progress)


@contextmanager
def factory_session(passphrase_file: Path | None = None) -> Iterator["Factory"]:
    """A factory that draws its progress."""
    settings = with_passphrase(read_settings(), passphrase_file)
    with renderer() as progress:
        if settings.ask is not None:
            settings = replace(settings, ask=undisturbed(progress, settings.ask))
        with factory(settings, progress) as made:
            yield made


def with_passphrase(settings: Settings, file: Path | None) -> Settings:
    """The same settings, with another file for the passphrase if one is named, and with a way to ask for it."""
    return replace(settings, passphrase_file=file.absolute() if file else settings.passphrase_file, ask=asker())


def asker() -> "Ask | None":
    """How to ask for a passphrase; None where there is no terminal."""
    return _ask if sys.stdin is not None and sys.stdin.isatty() else None


def _ask(prompt: str) -> bytes:
    try:
        return getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError:
        raise PassphraseMissing("nobody gave a passphrase") from None


def read_recipe(path: Path, settings: Settings) -> "LoadedRecipe":
    """A recipe whose elements are known. Raises RecipeError."""
    from imagefactory.tools.elements import search_path  # noqa: PLC0415 - not every verb here reads a recipe
    from imagefactory.tools.recipe_file import check_elements, load_recipe  # noqa: PLC0415

    loaded = load_recipe(path)
    check_elements(loaded, search_path(loaded.files[0], settings.elements_path))
    return loaded
