"""What the signer may sign: a small file that people review.

::

    {"version": 1, "development": false,
     "names": {NAME: {"builders": [KEYID, ...],
                      "recipes": [SHA256, ...],
                      "elements": {ELEMENT: [SHA256, ...], ...},
                      "evidence": [KIND, ...]}, ...}}

Rules for reading:

1. It is strict JSON of exactly this shape, version 1. Whatever is not in it is refused, so an empty one refuses all.
2. In a policy that is marked for development, NAME may be "*" (every other name), and recipes and elements may be the
   text "any". Nowhere else.

Rules for signing, in order. A build of NAME is refused unless

3. the policy speaks of NAME;
4. one of its builders signed the provenance;
5. its recipe is one of the recipes: the provenance's recipeDigest, which is the SHA-256 of the recipe that the
   provenance holds, as JSON with sorted keys and without white space;
6. each of its elements is listed, with one of the digests that are listed for it: the dependencies element/ELEMENT, the
   elements of the recipe among them;
7. there is evidence of every kind in `evidence`, which has one kind at least. (Whoever signs checks that.)
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagefactory.errors import (
    BuilderNotApproved,
    ElementNotApproved,
    NameNotApproved,
    PolicyInvalid,
    RecipeNotApproved,
)
from signing.errors import DocumentInvalid, ProvenanceInvalid
from signing.fields import PLAIN_FILE, SHA256_HEX, SLUG, Fields
from signing.provenance import Provenance
from signing.strict_json import decode

EVERY_NAME: Final = "*"
ANY: Final = "any"
ELEMENT: Final = "element/"


@dataclass(frozen=True)
class Approval:
    """What is approved for one name: keyids, SHA-256 hex, kinds of evidence. None is "any", for development."""

    builders: frozenset[str]
    recipes: frozenset[str] | None
    elements: Mapping[str, frozenset[str]] | None
    evidence: frozenset[str]

    def check(self, name: str, builder: str, recipe: str, elements: Mapping[str, str]) -> None:
        """Rules 4 to 6: `builder` is a keyid, `recipe` a digest, `elements` map names to digests, all in hex.

        Raises: BuilderNotApproved, RecipeNotApproved, ElementNotApproved.
        """
        if builder not in self.builders:
            raise BuilderNotApproved(f"the builder with key {builder[:16]} may not make {name}")
        if self.recipes is not None and recipe not in self.recipes:
            raise RecipeNotApproved(f"{name}: the recipe sha256:{recipe[:16]} is not approved")
        if self.elements is None:
            return
        for element, digest in elements.items():
            if digest not in self.elements.get(element, frozenset()):
                raise ElementNotApproved(f"{name}: element {element} as sha256:{digest[:16]} is not approved")


@dataclass(frozen=True)
class Policy:
    """The content of a policy file."""

    development: bool
    names: Mapping[str, Approval]

    def approval(self, name: str) -> Approval:
        """Rule 3. Raises: NameNotApproved."""
        approval = self.names.get(name) or self.names.get(EVERY_NAME)
        if approval is None:
            raise NameNotApproved(f"the policy does not speak of {name}")
        return approval

    def encode(self) -> bytes:
        """Return the bytes of the policy file, which `decode_policy` reads back, for people to review. Raises:
        PolicyInvalid."""
        names = {name: _write(approval) for name, approval in self.names.items()}
        document = {"version": 1, "development": self.development, "names": names}
        raw = json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
        decode_policy(raw)
        return raw


def decode_policy(raw: bytes) -> Policy:
    """Return what the bytes of a policy file say. Raises: PolicyInvalid."""
    try:
        return _decode(raw)
    except DocumentInvalid as why:
        raise PolicyInvalid(why.message) from None


def inputs_of(provenance: Provenance) -> tuple[str, dict[str, str]]:
    """Return the digest of the recipe, and that of each element by its name, that a provenance names, in hex.

    Raises: ProvenanceInvalid.
    """
    with Fields(provenance.external_parameters.get("recipeDigest"), "recipeDigest", ProvenanceInvalid) as fields:
        digest = fields.text("sha256", SHA256_HEX)
    recipe = provenance.external_parameters.get("recipe")
    canonical = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if not isinstance(recipe, dict) or hashlib.sha256(canonical.encode()).hexdigest() != digest:
        raise ProvenanceInvalid("the provenance holds another recipe than the one whose digest it names")
    elements: dict[str, str] = {}
    for each in provenance.resolved_dependencies:
        name = str(each.get("name"))
        if name.startswith(ELEMENT):
            with Fields(each.get("digest"), name, ProvenanceInvalid) as fields:
                found = fields.text("sha256", SHA256_HEX)
            if elements.setdefault(name.removeprefix(ELEMENT), found) != found:
                raise ProvenanceInvalid(f"the provenance names {name} in two states")
    wanted = recipe.get("elements", [])
    if not isinstance(wanted, list) or not {*map(str, wanted)} <= elements.keys():
        raise ProvenanceInvalid("the provenance does not name every element of its recipe")
    return digest, elements


def _decode(raw: bytes) -> Policy:
    with Fields(decode(raw, "policy"), "policy", DocumentInvalid) as fields:
        fields.exactly("version", 1)
        development = fields.boolean("development")
        named = fields.object("names")
        with Fields(named, "names", DocumentInvalid) as listed:
            names = {name: _read(listed.inner(name), name, development) for name in named}
    return Policy(development, names)


def _read(fields: Fields, name: str, development: bool) -> Approval:
    if not SLUG.fullmatch(name) and not (development and name == EVERY_NAME):
        raise PolicyInvalid("the policy speaks of a name that is none")
    with fields:
        builders = _texts(fields.take("builders"), SHA256_HEX, fields.where)
        recipes, elements = fields.take("recipes"), fields.take("elements")
        evidence = _texts(fields.take("evidence"), SLUG, fields.where)
    if not evidence:
        raise PolicyInvalid(f"{fields.where}: at least one kind of evidence must be wanted")
    return Approval(
        builders=builders,
        recipes=None if development and recipes == ANY else _texts(recipes, SHA256_HEX, fields.where),
        elements=None if development and elements == ANY else _elements(elements, fields.where),
        evidence=evidence,
    )


def _elements(listed: object, where: str) -> dict[str, frozenset[str]]:
    if not isinstance(listed, dict) or not all(map(PLAIN_FILE.fullmatch, listed)):
        raise PolicyInvalid(f"{where}: elements are names with lists of digests")
    return {name: _texts(states, SHA256_HEX, where) for name, states in listed.items()}


def _texts(values: object, pattern: re.Pattern[str], where: str) -> frozenset[str]:
    if not isinstance(values, list) or not all(isinstance(each, str) and pattern.fullmatch(each) for each in values):
        raise PolicyInvalid(f"{where}: a list holds something that does not belong there")
    return frozenset(values)


def _write(approval: Approval) -> dict[str, Any]:
    elements = approval.elements
    return {
        "builders": sorted(approval.builders),
        "recipes": ANY if approval.recipes is None else sorted(approval.recipes),
        "elements": ANY if elements is None else {name: sorted(states) for name, states in elements.items()},
        "evidence": sorted(approval.evidence),
    }
