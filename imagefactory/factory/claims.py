"""What a recipe or a release claims about its image, and what is refused before any work is done for it."""

from datetime import datetime

from imagefactory.errors import VisibilityRefused
from imagefactory.model import properties
from imagefactory.model.proof import foresee
from imagefactory.model.properties import Claim
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.recipe_targets import CloudTarget, visibility_refusal
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.tables import Release
from imagefactory.tools.machine import DEVICES
from signing.digest import read_document
from signing.manifest import MANIFEST_FILE
from signing.trust import Trust
from signing.verify import verify_manifest


def refuse_false_claims(loaded: LoadedRecipe) -> None:
    """See that the recipe claims nothing that no build of it can prove.

    Raises PropertyContradicted with the place in the file.
    """
    proof = foresee(loaded.recipe, DEVICES)
    properties.derive(loaded.recipe, proof, lambda key: loaded.where("properties", key))


def refuse_wrong_audience(loaded: LoadedRecipe) -> None:
    """See that every target may see the image. Raises VisibilityRefused with the place in the file."""
    for index, target in enumerate(loaded.recipe.publish):
        if isinstance(target, CloudTarget) and (reason := visibility_refusal(target, loaded.recipe.licensed)):
            raise VisibilityRefused(
                f"publish[{index}].visibility: {reason}", at=loaded.where("publish", index, "visibility")
            )


def of_recipe(loaded: LoadedRecipe) -> tuple[Claim, ...]:
    """The properties that a release of the recipe will have. Raises PropertyContradicted."""
    refuse_false_claims(loaded)
    return properties.explain(loaded.recipe, DEVICES)


def of_release(release: Release, artifacts: ArtifactStore, trust: Trust, *, now: datetime) -> tuple[Claim, ...]:
    """The properties that are signed for a release. Raises ArtifactMissing, and errors of the room signing."""
    manifest = read_document(artifacts.require(release.files[MANIFEST_FILE]))
    proof = verify_manifest(manifest, trust, now=now, name=release.name)
    return properties.explain_signed(proof.manifest.properties)
