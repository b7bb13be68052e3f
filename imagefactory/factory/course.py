"""How far a build has come, for whoever goes on with it: another process, perhaps on another host."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from imagefactory.factory.view import Packages
from imagefactory.model.packages import Change


@dataclass(frozen=True)
class Course:
    """The SHA-256 of the `recipe` that it builds, and what the mirrors said when it began; the titles of what is
    `done`; the id of the `build` that its work belongs to; whether the signer was asked (`checked`) and the newest
    version that it ever `signed` for this name; the SHA-256 of each log that was written, by the name of its file; and
    whether anything was made."""

    recipe: str | None = None
    packages: Packages | None = None
    done: frozenset[str] = frozenset()
    build: str | None = None
    checked: bool = False
    signed: str | None = None
    logs: Mapping[str, str] = field(default_factory=dict)
    worked: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "done": sorted(self.done)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Raises TypeError, KeyError for what to_json() did not make."""
        packages = document["packages"]
        if packages is not None:
            packages = Packages(packages["in_release"], tuple(Change(**change) for change in packages["changes"]))
        return cls(**{**document, "packages": packages, "done": frozenset(document["done"])})
