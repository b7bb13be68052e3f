"""What a step proved, and about which bytes."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
Outcome: TypeAlias = Literal["pass", "fail"]

_ABOUT = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Devices:
    """The machine of a boot test, in the words of Glance's properties."""

    hypervisor: str
    architecture: str
    machine: str
    disk_bus: str
    vif_model: str
    rng_model: str


@dataclass(frozen=True)
class Evidence:
    """One proof: `kind` ("boot", "compliance" ...), `about` the image as "sha256:HEX", and what was found.

    `facts` hold nothing but JSON and are read only. Raises ValueError when `about` is no digest or a field is empty.
    """

    kind: str
    about: str
    outcome: Outcome
    facts: Mapping[str, JSON]

    def __post_init__(self) -> None:
        if not self.kind:
            raise ValueError("evidence needs a kind")
        if not _ABOUT.fullmatch(self.about):
            raise ValueError(f"evidence is about sha256:HEX, not {self.about!r}")
        if self.outcome not in {"pass", "fail"}:
            raise ValueError(f"an outcome is pass or fail, not {self.outcome!r}")
        object.__setattr__(self, "facts", MappingProxyType({key: _frozen(value) for key, value in self.facts.items()}))

    def to_json(self) -> dict[str, JSON]:
        """The same as plain dicts and lists, for `json.dumps`."""
        facts = {key: _plain(value) for key, value in self.facts.items()}
        return {"kind": self.kind, "about": self.about, "outcome": self.outcome, "facts": facts}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Evidence":
        """Read what `to_json` wrote. Raises KeyError, ValueError."""
        return cls(document["kind"], document["about"], document["outcome"], document["facts"])

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the canonical JSON of this evidence: what a release binds."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(canonical.encode()).hexdigest()


def _frozen(value: JSON) -> JSON:
    if isinstance(value, Mapping):
        return MappingProxyType({str(key): _frozen(inner) for key, inner in value.items()})
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return tuple(_frozen(inner) for inner in value)
    raise ValueError(f"{type(value).__name__} is no JSON")


def _plain(value: JSON) -> JSON:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value
