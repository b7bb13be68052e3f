"""A recipe's own checks, as they are given to the boot test."""

from pathlib import Path

from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.recipe_tests import GuestCheck as Wanted
from imagefactory.tools.guest_checks import INLINE, GuestCheck, shebang
from imagefactory.tools.recipe_file import copy_reference


def guest_checks(loaded: LoadedRecipe, directory: Path) -> tuple[GuestCheck, ...]:
    """The checks with the very scripts that were digested, which are copied into `directory`. Raises InputsChanged."""
    return tuple(_guest_check(loaded, each, directory) for each in loaded.recipe.tests.guest)


def _guest_check(loaded: LoadedRecipe, wanted: Wanted, directory: Path) -> GuestCheck:
    program, interpreter = (wanted.run or "").encode(), INLINE
    if wanted.script is not None:
        copy = directory / wanted.name
        copy_reference(loaded, Path(wanted.script), copy)
        program = copy.read_bytes()
        interpreter = shebang(program) or INLINE
    return GuestCheck(wanted.name, program, interpreter, wanted.sudo, wanted.timeout)
