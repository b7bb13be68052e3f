"""Recipes."""

from pathlib import Path
from typing import NamedTuple

from imagefactory.errors.base import UsageError


class Place(NamedTuple):
    """Where something is written: `line` and `column` count from 1."""

    file: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class RecipeError(UsageError):
    """A recipe is wrong. The message begins with file:line:column; `lines` has whatever else is wrong with it."""

    code = ""
    default_advice = "docs/reference/recipe.md describes every field"

    def __init__(
        self, message: str, *, at: Place | None = None, advice: str | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message if at is None else f"{at}: {message}", advice=advice, lines=lines)
        self.file = None if at is None else at.file
        self.line = None if at is None else at.line
        self.column = None if at is None else at.column


class RecipeNotFound(RecipeError):
    """There is no such file."""

    code = "recipe-not-found"
    default_advice = "give the path of a recipe, such as recipes/soe-debian-12.yaml"


class RecipeUnreadable(RecipeError):
    """What should be a recipe is no regular file, or may not be read."""

    code = "recipe-unreadable"
    default_advice = "a recipe is a regular file that this user may read"


class RecipeTooLarge(RecipeError):
    """A recipe has too many bytes, nodes or levels."""

    code = "recipe-too-large"
    default_advice = "a recipe holds one image; what many share belongs in an element or in a recipe to extend"


class RecipeNotYaml(RecipeError):
    """A recipe cannot be read as YAML 1.2."""

    code = "recipe-not-yaml"
    default_advice = "indent with spaces, and put text with special characters in quotes"


class RecipeInvalid(RecipeError):
    """A field of a recipe is missing or has a wrong value."""

    code = "recipe-invalid"


class RecipeUnknownKey(RecipeError):
    """A recipe has a key that means nothing."""

    code = "recipe-unknown-key"


class RecipeUnit(RecipeError):
    """A size or a duration has no unit, or one that is not known."""

    code = "recipe-unit"
    default_advice = 'write sizes like "512 MiB" or "4 GiB", durations like "90s", "20m" or "2h"'


class RecipeExtendsLoop(RecipeError):
    """Recipes extend each other in a circle, or too many times over."""

    code = "recipe-extends-loop"
    default_advice = "a recipe extends at most eight others, one after the other"


class RecipeReference(RecipeError):
    """A file that the recipe names, such as a key or a certificate, cannot be used."""

    code = "recipe-reference"
    default_advice = "paths count from the folder of the file that writes them"


class ArchUnsupported(RecipeError):
    """Images of this architecture are not made."""

    code = "arch-unsupported"
    default_advice = "write arch: amd64"


class ElementUnknown(RecipeError):
    """No folder of elements has one of this name."""

    code = "element-unknown"
    default_advice = "an element is a folder of that name in one of the folders of elements"


class SecretInRecipe(RecipeError):
    """A recipe holds something that looks like a secret. The message does not repeat it."""

    code = "secret-in-recipe"
    default_advice = "a recipe is published with its image: give secrets to the instance, not to the image"
