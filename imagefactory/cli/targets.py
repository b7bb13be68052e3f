"""Targets of verify and boot: a file, catalogue:WHERE/NAME[@VERSION], glance:CLOUD/NAME-or-ID.

Clouds and catalogues are loaded only when one is named: to verify a file takes less time than to import what they need.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

import typer

from imagefactory.cli.common import channel_of
from imagefactory.errors import UsageError
from imagefactory.model.release import ReleaseRef
from imagefactory.model.target import CATALOGUE, GLANCE
from imagefactory.settings import Settings
from imagefactory.steps import verify as step
from imagefactory.steps.verify import Expectation, Proof, VerifiedImage
from imagefactory.tools.known_catalogue import KnownCatalogue, split_target
from signing.account import Account

Target = Annotated[
    str,
    typer.Argument(
        help="A file, a release folder, catalogue:WHERE/NAME[@VERSION] (WHERE: a directory or an http(s) address), or "
        "glance:CLOUD/NAME-or-ID.",
        show_default=False,
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option("--manifest", help="Of a file or an image. Default: release.sigstore.json beside it.", readable=False),
]
FromCatalogue = Annotated[
    str | None,
    typer.Option(
        "--catalogue",
        metavar="WHERE",
        help="Where the manifests of images in clouds are. Default: the built-in catalogue.",
        show_default=False,
    ),
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
    catalogue: str | None
    root: Path | None = None
    metadata_only: bool = False
    channel: str | None = None

    def check(self) -> None:
        """Raises UsageError when an option means nothing."""
        step.require_path(self.target)
        for_clouds = {"--catalogue": self.catalogue is not None, "--metadata-only": self.metadata_only}
        wrong = [name for name, given in for_clouds.items() if given and not in_cloud(self.target)]
        if wrong:
            raise UsageError(f"{wrong[0]} is for images in a cloud", advice="leave it out")
        if self.manifest is not None and in_catalogue(self.target):
            raise UsageError("--manifest is for a file: a published release has its own", advice="leave --manifest out")
        if self.root is not None and not is_listed(self.target, self.manifest):
            raise UsageError("--root is for what a catalogue lists", advice="leave it out")
        if self.channel is not None and not in_catalogue(self.target):
            raise UsageError("--channel is for a name in a catalogue", advice="leave it out")

    def listed(self, settings: Settings) -> tuple[KnownCatalogue, ReleaseRef, str]:
        """The catalogue and the release that the target names, and on which channel that is the newest if it names no
        version. Raises ReleaseNameInvalid, TargetUnsupported, UsageError."""
        where, ref = split_target(self.target.removeprefix(CATALOGUE))
        return settings.known_catalogue(where, self.root), ref, channel_of(ref, self.channel)

    def asked(self, settings: Settings) -> KnownCatalogue:
        """The catalogue with the manifests of images in clouds. Raises TargetUnsupported."""
        return settings.known_catalogue(self.catalogue or settings.catalogue, self.root)


def in_cloud(target: str) -> bool:
    """Whether a target is an image in a cloud."""
    return target.startswith(GLANCE)


def in_catalogue(target: str) -> bool:
    """Whether a target is a release in a catalogue."""
    return target.startswith(CATALOGUE)


def is_listed(target: str, manifest: Path | None) -> bool:
    """Whether a catalogue says what a target is, and so whom to believe."""
    return in_catalogue(target) or (in_cloud(target) and manifest is None)


def account_of(target: str) -> Account:
    """An account of the rules for a target of this kind."""
    if in_cloud(target):
        from imagefactory.steps.glance_verify import glance_account  # noqa: PLC0415

        return glance_account()
    if in_catalogue(target):
        from imagefactory.steps.listed import listed_account  # noqa: PLC0415

        return listed_account()
    return step.account_of(target)


def proof_of(wanted: Wanted, settings: Settings, on_bytes: Callable[[int], None], account: Account) -> Proof:
    """Verify every byte of a target, and report each rule to `account`. Raises what the steps raise."""
    wanted.check()
    if in_cloud(wanted.target):
        from imagefactory.steps.glance_verify import verify_glance  # noqa: PLC0415

        return verify_glance(
            wanted.target,
            wanted.expectation,
            catalogue=wanted.asked(settings),
            manifest=wanted.manifest,
            on_bytes=on_bytes,
            read_data=not wanted.metadata_only,
            account=account,
        )
    if in_catalogue(wanted.target):
        from imagefactory.steps.listed import verify_listed  # noqa: PLC0415

        known, ref, channel = wanted.listed(settings)
        return verify_listed(known, ref, wanted.expectation, on_bytes=on_bytes, account=account, channel=channel)
    return step.verify(wanted.target, wanted.expectation, manifest=wanted.manifest, on_bytes=on_bytes, account=account)


@contextmanager
def image_of(wanted: Wanted, settings: Settings, on_bytes: Callable[[int], None]) -> Iterator[VerifiedImage]:
    """The image of a target, verified and open; what is far away is downloaded first. Raises what the steps raise."""
    wanted.check()
    with _image(wanted, settings, on_bytes) as image:
        yield image


def _image(
    wanted: Wanted, settings: Settings, on_bytes: Callable[[int], None]
) -> AbstractContextManager[VerifiedImage]:
    work = settings.work if settings.work.is_dir() else Path(gettempdir())
    if in_cloud(wanted.target):
        from imagefactory.steps.glance_verify import verified_download  # noqa: PLC0415

        return verified_download(
            wanted.target,
            wanted.expectation,
            catalogue=wanted.asked(settings),
            manifest=wanted.manifest,
            on_bytes=on_bytes,
            work=work,
        )
    if in_catalogue(wanted.target):
        from imagefactory.steps.listed import listed_image  # noqa: PLC0415

        known, ref, channel = wanted.listed(settings)
        return listed_image(known, ref, wanted.expectation, work=work, on_bytes=on_bytes, channel=channel)
    return step.verified_file(Path(wanted.target), wanted.expectation, manifest=wanted.manifest, on_bytes=on_bytes)
