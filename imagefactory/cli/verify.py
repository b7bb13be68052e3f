"""imagefactory verify: proof, or a code."""

from typing import Annotated

import typer

from imagefactory.cli.common import Channel, RootFile, TrustFile, expectation, progress_session
from imagefactory.cli.output import Json, answer, leave, say, verb
from imagefactory.cli.targets import (
    FromCatalogue,
    Manifest,
    MetadataOnly,
    MinVersion,
    Name,
    Target,
    Wanted,
    account_of,
    in_cloud,
    is_listed,
    proof_of,
)
from imagefactory.errors import FactoryError, UsageError
from imagefactory.model.target import CloudPlace, split_image
from imagefactory.progress import Meter, Note
from imagefactory.settings import Settings
from imagefactory.steps.verify import Proof
from signing.account import Account
from signing.errors import SigningError

Explain = Annotated[bool, typer.Option("--explain", help="Show every rule and how it came out.")]


def register(app: typer.Typer) -> None:
    app.command("verify", epilog="Example: imagefactory verify catalogue:/srv/images/soe-debian-12")(verify)


@verb
def verify(
    target: Target,
    manifest: Manifest = None,
    catalogue: FromCatalogue = None,
    channel: Channel = None,
    metadata_only: MetadataOnly = False,
    name: Name = None,
    min_version: MinVersion = None,
    trust: TrustFile = None,
    root: RootFile = None,
    explain: Explain = False,
    as_json: Json = False,
) -> None:
    """Verify an image against the keys that you trust. Exit 0 says what was proved, exit 1 has a code."""
    account = account_of(target)
    try:
        with progress_session() as (settings, progress):
            expected = expectation(settings, trust, name, min_version, listed=is_listed(target, manifest))
            wanted = Wanted(target, expected, manifest, catalogue, root, metadata_only, channel)
            proof = proof_of(wanted, settings, Meter(progress, "verify"), account)
            for told in proof.warnings:
                progress(Note("warning", told))
            if in_cloud(target) and not metadata_only:
                _remember(settings, proof)
    except (FactoryError, SigningError) as error:
        raise _refusal(error, account, explain, as_json) from error
    lines = account.lines() if explain else []
    lines += [f"VERIFIED {proof.release}"]
    lines += [f"  {file}  sha256:{digest}" for file, digest in sorted(proof.files.items())]
    lines += [f"  {fact}" for fact in proof.facts]
    answer({"verified": proof.to_json(), "rules": account.to_json()}, "\n".join(lines), as_json)


def _refusal(error: FactoryError | SigningError, account: Account, explain: bool, as_json: bool) -> typer.Exit:
    """The end of a verification that proved nothing, and which rule it was. A request that is wrong meets none."""
    if error.exit_code == UsageError.exit_code:
        return leave(error, as_json)
    account.ended(error)
    if explain and not as_json:
        say("\n".join(account.lines()))
    return leave(error, as_json, {"rules": account.to_json()})


def _remember(settings: Settings, proof: Proof) -> None:
    """`releases show` tells when an image was last verified, if it is one of this factory's."""
    if not settings.has_records:
        return
    from imagefactory.store.records import Records  # noqa: PLC0415 - verifying elsewhere needs no database

    cloud, image_id = split_image(proof.target)
    records = Records(settings.database)
    try:
        records.saw(str(CloudPlace(cloud)), image_id, proof.signed.sha256)
    finally:
        records.close()
