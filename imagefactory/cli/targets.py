"""Targets of verify and boot: a file, catalogue:PATH/NAME[@VERSION], glance:CLOUD/NAME-or-ID.

Clouds are loaded only when one is named: to verify a file takes less time than to import what they need.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

import typer

from imagefactory.errors import UsageError
from imagefactory.model.target import GLANCE
from imagefactory.settings import Settings
from imagefactory.steps import verify as step
from imagefactory.steps.verify import Expectation, Proof, VerifiedImage
from signing.account import Account

Target = Annotated[
    str,
    typer.Argument(
        help="A file, a release folder, catalogue:PATH/NAME[@VERSION] or glance:CLOUD/NAME-or-ID.", show_default=False
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option("--manifest", help="Of a file or an image. Default: release.sigstore.json beside it.", readable=False),
]
FromCatalogue = Annotated[
    Path | None,
    typer.Option("--catalogue", help="Where the manifests of images are. Default: the built-in one.", readable=False),
]
MetadataOnly = Annotated[
    bool,
    typer.Option("--metadata-only", help="Of an image in a cloud: believe Glance what it says of the data's hash."),
]
Name = Annotated[str | None, typer.Option("--name", help="The image name that is expected.")]
MinVersion = Annotated[str | None, typer.Option("--min-version", help="The oldest version that is good enough.")]


@dataclass(frozen=True)
class Wanted:
    """What to verify, against what; `catalogue` is for images in clouds."""

    target: str
    expectation: Expectation
    manifest: Path | None
    catalogue: Path | None
    metadata_only: bool = False

    @property
    def in_cloud(self) -> bool:
        return self.target.startswith(GLANCE)

    def check(self) -> None:
        """Raises UsageError when an option means nothing."""
        options = {"--catalogue": self.catalogue is not None, "--metadata-only": self.metadata_only}
        wrong = [name for name, given in options.items() if given and not self.in_cloud]
        if wrong:
            raise UsageError(f"{wrong[0]} is for images in a cloud", advice="leave it out")


def account_of(target: str) -> Account:
    """An account of the rules for a target of this kind."""
    if not target.startswith(GLANCE):
        return step.account_of(target)
    from imagefactory.steps.glance_verify import glance_account  # noqa: PLC0415

    return glance_account()


def proof_of(wanted: Wanted, settings: Settings, on_bytes: Callable[[int], None], account: Account) -> Proof:
    """Verify every byte of a target, and report each rule to `account`. Raises what the steps raise."""
    wanted.check()
    if not wanted.in_cloud:
        return step.verify(
            wanted.target, wanted.expectation, manifest=wanted.manifest, on_bytes=on_bytes, account=account
        )
    from imagefactory.steps.glance_verify import verify_glance  # noqa: PLC0415

    return verify_glance(
        wanted.target,
        wanted.expectation,
        catalogue=wanted.catalogue or settings.catalogue,
        manifest=wanted.manifest,
        on_bytes=on_bytes,
        read_data=not wanted.metadata_only,
        account=account,
    )


@contextmanager
def image_of(wanted: Wanted, settings: Settings, on_bytes: Callable[[int], None]) -> Iterator[VerifiedImage]:
    """The image of a target, verified and open; one of a cloud is downloaded first. Raises what the steps raise."""
    wanted.check()
    if not wanted.in_cloud:
        with step.verified_image(
            wanted.target, wanted.expectation, manifest=wanted.manifest, on_bytes=on_bytes
        ) as image:
            yield image
        return
    from imagefactory.steps.glance_verify import verified_download  # noqa: PLC0415

    with verified_download(
        wanted.target,
        wanted.expectation,
        catalogue=wanted.catalogue or settings.catalogue,
        manifest=wanted.manifest,
        on_bytes=on_bytes,
        work=settings.work if settings.work.is_dir() else Path(gettempdir()),
    ) as image:
        yield image
