"""What any verb may begin with: settings, a renderer, what to expect. Imports little, so that verify starts fast."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from imagefactory.cli.render import renderer
from imagefactory.errors import UsageError
from imagefactory.model.lifecycle import STABLE
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.progress import Progress
from imagefactory.settings import Settings, read_settings
from imagefactory.steps.verify import Expectation
from signing.trust import find_trust, load_trust

TrustFile = Annotated[
    Path | None,
    # readable=False: whoever opens it says why it cannot be read, with a code of its own.
    typer.Option(
        "--trust",
        help="The trust file. Default: IMAGEFACTORY_TRUST; then a catalogue's own trust policy, or of files "
        "HOME/trust.json, then /etc.",
        readable=False,
    ),
]
RootFile = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="The catalogue's root.json, wanted once. Default: HOME/root.json, then /etc/imagefactory/root.json.",
        show_default=False,
        readable=False,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--catalogue",
        metavar="WHERE",
        help="A directory or an http(s) address. Default: the built-in one.",
        show_default=False,
    ),
]
Channel = Annotated[
    str | None,
    typer.Option("--channel", metavar="CHANNEL", help="Of a NAME, the newest on this one. Default: stable."),
]
ReleaseOrName = Annotated[str, typer.Argument(metavar="RELEASE", help="NAME or NAME@VERSION.", show_default=False)]
OneRelease = Annotated[str, typer.Argument(metavar="RELEASE", help="NAME@VERSION.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]


def image_name(text: str) -> str:
    """NAME, where no single release of it is meant. Raises ReleaseNameInvalid, UsageError."""
    ref = ReleaseRef.parse(text)
    if ref.version is not None:
        raise UsageError(f"{text} is one release, and a name is wanted", advice=f"say {ref.name}")
    return ref.name


def channel_of(ref: ReleaseRef, channel: str | None) -> str:
    """The channel on which the newest release is wanted. Raises UsageError where a version is asked for."""
    if channel is not None and ref.version is not None:
        raise UsageError(f"{ref} is one release, on whatever channel it is", advice="leave --channel out")
    return STABLE if channel is None else channel


@contextmanager
def progress_session() -> Iterator[tuple[Settings, Progress]]:
    """Settings and a renderer, for verbs that need no records."""
    with renderer() as progress:
        yield read_settings(), progress


def expectation(
    settings: Settings,
    trust: Path | None = None,
    name: str | None = None,
    min_version: str | None = None,
    *,
    listed: bool = False,
) -> Expectation:
    """What verification expects: the trust file of these settings, and what the user pinned. For what is `listed` in a
    catalogue that has its own, only one that is named counts.

    Raises NoTrustRoot, TrustInvalid, ReleaseNameInvalid.
    """
    oldest = None if min_version is None else Version.parse(min_version)
    named = trust or settings.trust
    found = None if listed and named is None else load_trust(find_trust(settings.trust_files(trust)))
    return Expectation(found, datetime.now(UTC), name=name, min_version=oldest)
