"""diskimage-builder elements as files: which ones a recipe pulls in, and the digest of each."""

from collections.abc import Mapping, Sequence
from hashlib import file_digest, sha256
from pathlib import Path

from diskimage_builder.element_dependencies import (
    AlreadyProvidedException,
    InvalidElementDir,
    MissingElementException,
    MissingOSException,
    get_elements,
)

from imagefactory.errors import ElementsConflict
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


def digests(elements: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each element: names, modes and contents of its files, but for what is only read by people.

    Raises ElementsConflict.
    """
    return {name: _digest(name, path) for name, path in elements.items()}


def _digest(name: str, element: Path) -> str:
    whole = sha256()
    files = sorted(path for path in element.rglob("*") if not IGNORED.intersection(path.parts))
    if len(files) > MAX_FILES:
        raise ElementsConflict(f"element {name} has more than {MAX_FILES} files")
    for path in files:
        if path.is_symlink():
            what = f"link {path.readlink()}"
        elif path.is_file():
            with path.open("rb") as stream:
                what = f"{'x' if path.stat().st_mode & 0o100 else '-'} {file_digest(stream, 'sha256').hexdigest()}"
        else:
            continue
        whole.update(f"{path.relative_to(element)}\0{what}\0".encode())
    return whole.hexdigest()
