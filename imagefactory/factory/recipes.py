"""The recipe of a release, as its builder attested it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.provenance import Provenance
from signing.trust import Trust


def recipe_of(provenance: Path, trust: Trust) -> Mapping[str, Any]:
    """The recipe that a release was built from, as its builder attested it. Raises errors of the room signing."""
    statement = parse_bundle(read_document(provenance)).open(trust.provenance)
    recipe = Provenance.from_statement(statement).external_parameters.get("recipe")
    return recipe if isinstance(recipe, dict) else {}
