"""imagefactory verify: proof, or a code."""

import typer

from imagefactory.cli.common import TrustFile, expectation, progress_session
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.targets import FromCatalogue, Manifest, MetadataOnly, MinVersion, Name, Target, Wanted, proof_of
from imagefactory.model.target import GLANCE, CloudPlace, split_image
from imagefactory.progress import Meter
from imagefactory.settings import Settings
from imagefactory.steps.verify import Proof


def register(app: typer.Typer) -> None:
    app.command("verify", epilog="Example: imagefactory verify catalogue:/srv/images/soe-debian-12")(verify)


@verb
def verify(
    target: Target,
    manifest: Manifest = None,
    catalogue: FromCatalogue = None,
    metadata_only: MetadataOnly = False,
    name: Name = None,
    min_version: MinVersion = None,
    trust: TrustFile = None,
    as_json: Json = False,
) -> None:
    """Verify an image against the keys that you trust. Exit 0 says what was proved, exit 1 has a code."""
    with progress_session() as (settings, progress):
        expected = expectation(settings, trust, name, min_version)
        proof = proof_of(
            Wanted(target, expected, manifest, catalogue, metadata_only), settings, Meter(progress, "verify")
        )
        if proof.target.startswith(GLANCE) and not metadata_only:
            _remember(settings, proof)
    lines = [f"VERIFIED {proof.name}@{proof.version}"]
    lines += [f"  {file}  sha256:{digest}" for file, digest in sorted(proof.files.items())]
    lines += [f"  {fact}" for fact in proof.facts]
    answer({"verified": proof.to_json()}, "\n".join(lines), as_json)


def _remember(settings: Settings, proof: Proof) -> None:
    """`releases show` tells when an image was last verified, if it is one of this factory's."""
    if not settings.database.is_file():
        return
    from imagefactory.store.records import Records  # noqa: PLC0415 - verifying elsewhere needs no database

    cloud, image_id = split_image(proof.target)
    records = Records(settings.database)
    try:
        records.saw(str(CloudPlace(cloud)), image_id, proof.manifest_sha256)
    finally:
        records.close()
