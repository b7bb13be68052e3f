"""What is wrong with a recipe, for people: where, and what should stand there."""

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from pydantic_core import ErrorDetails

from imagefactory.errors import Place, RecipeError, RecipeInvalid, RecipeUnknownKey, catalogue
from imagefactory.model.quantity import shown
from imagefactory.model.recipe import known_keys
from imagefactory.tools.recipe_yaml import Node

MAX_LINES: Final = 20  # errors that are listed

_PLAINER: Final = {
    "missing": "is missing",
    "int_type": "should be a whole number",
    "string_type": "should be text: put it in quotes if it looks like something else",
    "tuple_type": "should be a list",
    "model_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "mapping_type": "should be a mapping",
}


Known = Callable[[Sequence[str | int]], Collection[str]]
"""Says which keys may stand in the mapping at a path."""


def as_recipe_error(errors: Sequence[ErrorDetails], tree: Node, path: Path, known: Known = known_keys) -> RecipeError:
    """The first of what pydantic found in a recipe, the others in its lines. `tree` knows where each stands, `path` is
    the recipe: its own lines come before those of files that it extends."""
    # A default that hangs on another field has nothing of its own to say when that one is wrong.
    told = [error for error in errors if error["type"] != "default_factory_not_called"]
    problems = sorted({_problem(error, tree, known) for error in told}, key=lambda p: (p[0].file != path, *p))
    (at, code, message), *others = problems
    lines = [f"{at}: {message}" for at, _, message in others]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"and {len(lines) - MAX_LINES} more"]
    kinds = {kind.code: kind for kind in catalogue(RecipeError) if issubclass(kind, RecipeError)}
    return kinds.get(code, RecipeInvalid)(message, at=at, lines=tuple(lines))


def _problem(error: ErrorDetails, tree: Node, known: Known) -> tuple[Place, str, str]:
    """Where, the code, and what is wrong, for people."""
    node, path = tree, list[str | int]()
    for part in error["loc"]:  # which also has the names of alternatives, and "[key]"
        inner = node.child(part)
        if inner is not None:
            node = inner
            path.append(part)
    kind, text = error["type"], error["msg"]
    at = node.at
    if error["loc"][-1:] == ("[key]",) or kind == "extra_forbidden":
        at = node.key or node.at
    name = dotted(path)
    if kind == "extra_forbidden":
        keys = known(path[:-1])
        hint = nearest(str(path[-1]), keys) or (f"; known are {', '.join(sorted(keys))}" if keys else "")
        return at, RecipeUnknownKey.code, f"{name}: unknown key{hint or ': nothing may stand here yet'}"
    if kind == "missing":
        name, at = dotted((*path, *error["loc"][-1:])), node.key or node.at
    text = _PLAINER.get(kind) or re.sub(r"^\w+ should", "should", text).replace(" after validation", "")
    if kind == "literal_error" and isinstance(node.value, int | float):
        text += ", in quotes"
    return at, kind, f"{name}: {text}" if name else text


def dotted(path: Sequence[str | int]) -> str:
    """`path` for people, such as packages[3] or tests.boot; a strange key is cut short."""
    parts = (part if isinstance(part, int) or re.fullmatch(r"[\w:-]{1,60}", part) else shown(part) for part in path)
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a message: what was probably meant, if anything is near."""
    near = difflib.get_close_matches(name[:100], sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
