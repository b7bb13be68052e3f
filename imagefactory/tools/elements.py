"""diskimage-builder elements as files: which ones a recipe pulls in, and the digest of each."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from hashlib import file_digest, sha256
from pathlib import Path

from diskimage_builder.element_dependencies import (
    AlreadyProvidedException,
    InvalidElementDir,
    MissingElementException,
    MissingOSException,
    get_elements,
)

from imagefactory.errors import ElementsConflict, ElementsUnsafe
from imagefactory.tools.dib import own_elements

IGNORED = {"__pycache__", "README.rst"}
MAX_FILES = 10_000  # an element is a handful of scripts; more is a mistake in the search path


def shipped_elements() -> Path:
    """The elements that come with imagefactory: in the wheel beside the package, in a checkout at its top."""
    package = Path(__file__).parents[1]
    shipped = package / "elements"
    return shipped if shipped.is_dir() else package.parent / "elements"


def search_path(recipe_file: Path, configured: Sequence[Path]) -> tuple[Path, ...]:
    """Where elements are looked for, first match first: beside the recipe, IMAGEFACTORY_ELEMENTS, ours,
    diskimage-builder's."""
    beside = recipe_file.parent / "elements"
    candidates = (beside, *configured, shipped_elements(), own_elements())
    return tuple(dict.fromkeys(path.resolve() for path in candidates if path.is_dir()))


def expand(elements: Sequence[str], path: Sequence[Path]) -> dict[str, Path]:
    """Every element that is needed, by name, dependencies included, sorted.

    Raises ElementsConflict when a dependency is missing or two elements provide the same.
    """
    try:
        found = get_elements(list(elements), ":".join(map(str, path)))
    except (AlreadyProvidedException, InvalidElementDir, MissingElementException, MissingOSException) as error:
        raise ElementsConflict(f"the elements do not go together: {error}") from error
    return {name: Path(where) for name, where in sorted(found)}


def require_safe(elements: Mapping[str, Path], path: Sequence[Path]) -> None:
    """Root runs what is in `elements`: raise ElementsUnsafe if others may write there, or to the folders in `path`.

    Our own and diskimage-builder's are installed with the program itself, so they are as safe as that is.
    """
    installed = {shipped_elements().resolve(), own_elements().resolve()}
    for folder in path:
        if folder.resolve() not in installed:
            _require_safe(folder)
    for element in elements.values():
        if element.parent.resolve() in installed:
            continue
        for one in (element, *element.rglob("*")):
            _require_safe(one)


def _require_safe(path: Path) -> None:
    try:
        resolved = path.resolve(strict=True)
        status = resolved.stat()
        loose = next((str(each) for each in resolved.parents if _is_loose(each)), None)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise ElementsUnsafe(f"{path} cannot be looked at") from error
    if status.st_uid not in {0, os.geteuid()}:
        raise ElementsUnsafe(f"{path} belongs to neither root nor the caller, but root would run what is there")
    if status.st_mode & stat.S_IWOTH:
        raise ElementsUnsafe(f"everybody may write to {path}, and root would run what is there")
    if loose is not None:
        raise ElementsUnsafe(f"everybody may write to {loose} and so replace {path}, which root would run")


def _is_loose(directory: Path) -> bool:
    mode = directory.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def digests(elements: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each element: names, modes and contents of its files, and of those that its links lead to, but for
    what is only read by people.

    Raises ElementsConflict.
    """
    return {name: _digest(name, path) for name, path in elements.items()}


def _digest(name: str, element: Path) -> str:
    whole = sha256()
    files = sorted(path for path in element.rglob("*") if not IGNORED.intersection(path.relative_to(element).parts))
    if len(files) > MAX_FILES:
        raise ElementsConflict(f"element {name} has more than {MAX_FILES} files")
    for path in files:
        for what in _described(name, path):
            whole.update(f"{path.relative_to(element)}\0{what}\0".encode())
    return whole.hexdigest()


def _described(name: str, path: Path) -> Iterator[str]:
    if path.is_symlink():
        yield f"link {path.readlink()}"
        if path.is_dir():
            raise ElementsConflict(f"element {name}: {path} is a link to a directory, whose files would go unnoticed")
    try:
        if path.is_file():
            with path.open("rb") as stream:
                yield f"{'x' if path.stat().st_mode & 0o100 else '-'} {file_digest(stream, 'sha256').hexdigest()}"
    except OSError as error:
        raise ElementsConflict(f"element {name}: {path} cannot be read: {error.strerror}") from error
