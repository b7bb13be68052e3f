"""Recipes from files: read, extend, validate, digest.

A recipe may `extends: OTHER.yaml`. Mappings are merged and the recipe that extends wins; lists are replaced; a null
removes what was extended (and is an error where there is nothing to remove, so that `raw:` is never read as both "with
defaults" and "not at all"). Paths count from the folder of the file that writes them, and errors name that file.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydantic import ValidationError

from imagefactory.errors import (
    ElementUnknown,
    InputsChanged,
    Place,
    RecipeError,
    RecipeExtendsLoop,
    RecipeInvalid,
    RecipeNotFound,
    RecipeNotYaml,
    RecipeReference,
    RecipeTooLarge,
    RecipeUnreadable,
    SecretInRecipe,
)
from imagefactory.model.properties import check_forms, typed_in
from imagefactory.model.quantity import format_size
from imagefactory.model.recipe import LoadedRecipe, Recipe, effective
from imagefactory.model.recipe_base import is_in_cloud
from imagefactory.model.recipe_compliance import Compliance
from imagefactory.model.recipe_fields import holds_private_key, is_url
from imagefactory.model.recipe_lifecycle import contradictions
from imagefactory.model.recipe_targets import CloudTarget, misfits
from imagefactory.tools.guest_checks import shebang
from imagefactory.tools.recipe_errors import as_recipe_error, dotted, nearest
from imagefactory.tools.recipe_yaml import Node, read_tree

MAX_BYTES: Final = 1 << 20  # of a recipe, and of each file that it names
MAX_CONTENT: Final = 64 << 20  # bytes of a SCAP data stream; Debian's own has 10 MB
MAX_EXTENDS: Final = 8  # files that one recipe extends, one after the other

_ALL: Final = "*"  # in a path: every item of a list
_PATHS: Final = (
    ("ca_certificates", _ALL),
    ("repositories", _ALL, "signed_by"),
    ("publish", _ALL, "catalogue"),
    ("compliance", "content"),
    ("compliance", "tailoring"),
    ("tests", "guest", _ALL, "script"),
)
_FEED: Final = ("vulnerabilities", "feed")  # a path, or an address
_BASE: Final = ("base", "image")  # a path, an address, or an image in a cloud


def load_recipe(path: Path) -> LoadedRecipe:
    """The recipe in the file `path`, merged with what it extends, valid, its paths absolute.

    Raises a RecipeError; where several things are wrong, the message is the first and `lines` has the rest. Whether
    elements exist is for `check_elements` to say.
    """
    digests: dict[Path, str] = {}
    tree = _absolute_paths(_merged(path, digests))
    try:
        recipe = Recipe.model_validate(tree.plain())
    except ValidationError as error:
        raise as_recipe_error(error.errors(include_url=False, include_input=False), tree, path) from None
    _check_across(recipe, tree)
    document = _document(recipe, tree, digests)
    digest = hashlib.sha256(_canonical(document)).hexdigest()
    return LoadedRecipe(recipe, tuple(digests), digest, digests, dict(tree.places()), document)


def copy_reference(loaded: LoadedRecipe, path: Path, target: Path) -> None:
    """Copy a file that the recipe names, the very bytes that were digested, to the new or old file `target`.

    Raises RecipeError, and InputsChanged when it holds other bytes now.
    """
    with _opened(path, None) as file:
        content = file.read(MAX_CONTENT + 1)
    if hashlib.sha256(content).hexdigest() != loaded.digests[path]:
        raise InputsChanged(f"{path} changed after the recipe was read")
    target.write_bytes(content)


def check_elements(recipe: Recipe | LoadedRecipe, search_path: Sequence[Path]) -> None:
    """Raise ElementUnknown unless every element of `recipe` is a folder in one of the folders `search_path`.

    With a LoadedRecipe the error says where the element is written.
    """
    loaded = recipe if isinstance(recipe, LoadedRecipe) else None
    names = loaded.recipe.elements if loaded else recipe.elements if isinstance(recipe, Recipe) else ()
    known = {entry.name for folder in search_path if folder.is_dir() for entry in folder.iterdir() if entry.is_dir()}
    problems = [
        (loaded.where("elements", index) if loaded else None, f"no element is called {name}{nearest(name, known)}")
        for index, name in enumerate(names)
        if name not in known
    ]
    if problems:
        (at, message), *others = problems
        raise ElementUnknown(message, at=at, lines=tuple(f"{at}: {text}" if at else text for at, text in others))


# -- reading ----------------------------------------------------------------------------------------------------------


def _merged(path: Path, digests: dict[Path, str]) -> Node:
    """The tree of `path` over those that it extends. Adds each file's digest to `digests`."""
    trees: list[Node] = []
    seen = set[tuple[int, int]]()
    following: Path | None = path
    at: Place | None = None
    while following is not None:
        if len(trees) > MAX_EXTENDS:
            raise RecipeExtendsLoop(f"more than {MAX_EXTENDS} recipes extended, one after the other", at=at)
        content, identity = _read(following, at)
        if identity in seen:
            raise RecipeExtendsLoop(f"{following} is extended by itself", at=at)
        seen.add(identity)
        digests[following] = hashlib.sha256(content).hexdigest()
        tree, at, following = _without_extends(read_tree(_decoded(content, following), following), following)
        trees.append(tree)
    merged = trees.pop()
    while trees:
        merged = _over(merged, trees.pop(), ())
    return merged


@contextmanager
def _opened(path: Path, at: Place | None) -> Iterator[BinaryIO]:
    """A regular file. Never waits for a FIFO or a device. What goes wrong with it inside is a RecipeError, too."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RecipeUnreadable(f"{path} is no regular file", at=at)
            yield file
    except ValueError:
        raise RecipeNotFound(f"{str(path)!r} is no path", at=at) from None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise RecipeNotFound(f"there is no file {path}", at=at) from None
        reason = {errno.ELOOP: "symbolic links in a circle", errno.EISDIR: "a folder"}.get(error.errno or 0)
        raise RecipeUnreadable(f"{path} cannot be read: {reason or error.strerror}", at=at) from None


def _read(path: Path, at: Place | None) -> tuple[bytes, tuple[int, int]]:
    """At most MAX_BYTES of a regular file, and its device and inode."""
    with _opened(path, at) as file:
        status = os.fstat(file.fileno())
        content = file.read(MAX_BYTES + 1)
    _check_size(path, len(content), MAX_BYTES, at)
    return content, (status.st_dev, status.st_ino)


def _digest(path: Path, most: int) -> str:
    """The SHA-256 (hex) of a regular file of at most `most` bytes, which are never all in memory."""
    hasher, size = hashlib.sha256(), 0
    with _opened(path, None) as file:
        while size <= most and (piece := file.read(MAX_BYTES)):
            hasher.update(piece)
            size += len(piece)
    _check_size(path, size, most, None)
    return hasher.hexdigest()


def _check_size(path: Path, size: int, most: int, at: Place | None) -> None:
    if size > most:
        raise RecipeTooLarge(f"{path} has more than {format_size(most)}", at=at)


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        at = Place(path, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise RecipeNotYaml(f"byte 0x{content[error.start]:02x} is not UTF-8", at=at) from None


def _without_extends(tree: Node, path: Path) -> tuple[Node, Place | None, Path | None]:
    """The tree without `extends`, where that was written, and the file that it names."""
    if not isinstance(tree.value, Mapping):
        raise RecipeInvalid("a recipe is a mapping, such as name: my-image", at=tree.at)
    parent = tree.value.get("extends")
    if parent is None:
        return tree, None, None
    if not isinstance(parent.value, str) or re.fullmatch(r"[^/\n\t][^\n\t]{0,4095}", parent.value) is None:
        raise RecipeInvalid("extends: should be a path from the folder of this file", at=parent.at)
    rest = {key: node for key, node in tree.value.items() if key != "extends"}
    return replace(tree, value=rest), parent.at, path.parent / parent.value


# -- merging ----------------------------------------------------------------------------------------------------------


def _over(base: Node | None, child: Node, path: tuple[str, ...]) -> Node:
    """`child` on top of `base`."""
    if not isinstance(child.value, Mapping):
        return child
    below = base.value if base is not None and isinstance(base.value, Mapping) else {}
    merged = dict(below)
    for key, node in child.value.items():
        if node.value is not None:
            merged[key] = _over(below.get(key), node, (*path, key))
        elif merged.pop(key, None) is None:
            text = f"{dotted((*path, key))}: nothing to remove here; for its defaults write {{}}, or leave it out"
            raise RecipeInvalid(text, at=node.key or node.at)
    return replace(child, value=merged)


def _absolute_paths(tree: Node) -> Node:
    for path in _PATHS:
        tree = _edited(tree, path, _absolute)
    tree = _edited(tree, _BASE, lambda node: node if is_in_cloud(str(node.value)) else _unless_address(node))
    return _edited(tree, _FEED, _unless_address)


def _unless_address(node: Node) -> Node:
    return node if is_url(str(node.value)) else _absolute(node)


def _absolute(node: Node) -> Node:
    if not isinstance(node.value, str) or not node.value:
        return node
    return replace(node, value=str((node.at.file.parent / node.value).absolute()), written=node.value)


def _edited(node: Node, path: tuple[str, ...], edit: Callable[[Node], Node]) -> Node:
    """`node` with `edit` done to what is at `path`, if it is there."""
    if not path:
        return edit(node)
    if isinstance(node.value, tuple) and path[0] == _ALL:
        return replace(node, value=tuple(_edited(item, path[1:], edit) for item in node.value))
    if isinstance(node.value, Mapping) and path[0] in node.value:
        return replace(node, value={**node.value, path[0]: _edited(node.value[path[0]], path[1:], edit)})
    return node


def _check_across(recipe: Recipe, tree: Node) -> None:
    """See that fields fit together that are valid by themselves, and that known properties have their forms."""
    for index, key, text in misfits(recipe.publish, recipe.formats.names):
        raise RecipeInvalid(f"publish[{index}].{key}: {text}", at=_at(tree, "publish", index, key).at)
    clouds = frozenset(target.cloud for target in recipe.publish if isinstance(target, CloudTarget))
    for path, text in contradictions(recipe.life, clouds):
        raise RecipeInvalid(f"{dotted(path)}: {text}", at=_at(tree, *path).at)
    check_forms(typed_in(recipe), lambda key: _at(tree, "properties", key).at)


# -- the digest -------------------------------------------------------------------------------------------------------


def _document(recipe: Recipe, tree: Node, digests: dict[Path, str]) -> dict[str, Any]:
    """The whole recipe, the same in whatever folder it lies."""
    document = effective(recipe)
    names: dict[str, Place] = {}
    for index, name in enumerate(recipe.ca_certificates):
        node = _at(tree, "ca_certificates", index)
        content = _reference(Path(name), node.at, digests)
        if b"-----BEGIN CERTIFICATE-----" not in content:
            raise RecipeReference(f"{name} has no PEM certificate in it", at=node.at)
        base = Path(name).name
        if base in names:
            raise RecipeInvalid(f"a file called {base} is already in line {names[base].line}", at=node.at)
        names[base] = node.at
        document["ca_certificates"][index] = {"name": base, "sha256": digests[Path(name)]}
    for index, repository in enumerate(recipe.repositories):
        if repository.signed_by is not None:
            _reference(Path(repository.signed_by), _at(tree, "repositories", index, "signed_by").at, digests)
            document["repositories"][index]["signed_by"] = {"sha256": digests[Path(repository.signed_by)]}
    if recipe.compliance is not None:
        document["compliance"] |= _standard(recipe.compliance, _at(tree, "compliance"), digests)
    if recipe.vulnerabilities is not None and not recipe.vulnerabilities.is_remote:
        # Its content is what is known today, and no part of the recipe.
        document["vulnerabilities"]["feed"] = _at(tree, *_FEED).written
    if recipe.base is not None and recipe.base.is_file:
        # Its content is pinned, wherever it lies.
        document["base"]["image"] = _at(tree, *_BASE).written
    for index, check in enumerate(recipe.tests.guest):
        if check.script is not None:
            node = _at(tree, "tests", "guest", index, "script")
            document["tests"]["guest"][index]["script"] = _script(Path(check.script), node.at, digests)
    for index, target in enumerate(document["publish"]):
        if "catalogue" in target:
            target["catalogue"] = _at(tree, "publish", index, "catalogue").written
    return document


def _standard(compliance: Compliance, node: Node, digests: dict[Path, str]) -> dict[str, Any]:
    """What stands in the document for the files of a standard. XML is not for this room to read."""
    found: dict[str, Any] = {}
    if compliance.content is not None:
        path = Path(compliance.content)
        with _referring(_at(node, "content").at):
            digests[path] = _digest(path, MAX_CONTENT)
        found["content"] = {"sha256": digests[path]}
    if compliance.tailoring is not None:
        path = Path(compliance.tailoring)
        _reference(path, _at(node, "tailoring").at, digests)
        found["tailoring"] = {"sha256": digests[path]}
    return found


def _script(path: Path, at: Place, digests: dict[Path, str]) -> dict[str, str]:
    """What stands in the document for a script."""
    content = _reference(path, at, digests)
    if shebang(content) is None or b"\0" in content:
        raise RecipeReference(f"{path} is no script: its first line should be #! and a program", at=at)
    return {"sha256": digests[path]}


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _reference(path: Path, at: Place, digests: dict[Path, str]) -> bytes:
    """The content of a file that the recipe names, its digest added to `digests`."""
    with _referring(at):
        content, _ = _read(path, None)
    if holds_private_key(content.decode(errors="replace")):
        raise SecretInRecipe(f"{path} holds a private key", at=at)
    digests[path] = hashlib.sha256(content).hexdigest()
    return content


@contextmanager
def _referring(at: Place) -> Iterator[None]:
    """What is wrong with a file is wrong with what the recipe says at `at`."""
    try:
        yield
    except RecipeError as error:
        raise RecipeReference(error.message, at=at) from None


def _at(tree: Node, *path: str | int) -> Node:
    node = tree
    for part in path:
        node = node.child(part) or node
    return node
