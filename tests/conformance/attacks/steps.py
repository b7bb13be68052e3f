"""What is done to a copy of a case before, or while, it is verified; `tests/conformance/test_attacks.py` does it."""

from collections.abc import Mapping
from typing import Any

Step = Mapping[str, Any]
Steps = tuple[Step, ...]


def step(action: str, path: str, **details: object) -> Step:
    """One step: `action` is done to `path`, relative to the case."""
    return {"do": action, "path": path, **details}


def in_release(name: str) -> str:
    """The path of a file of the release."""
    return f"release/{name}"


def replaced(name: str, action: str, **details: object) -> Steps:
    """Something else is made where a file of the release lay."""
    return step("remove", in_release(name)), step(action, in_release(name), **details)


def linked_away(path: str) -> Steps:
    """What lay there is moved out of the folder, and a symbolic link leads to it."""
    depth = path.count("/")
    return step("move", path, to="outside"), step("symlink", path, to="../" * depth + "outside")
