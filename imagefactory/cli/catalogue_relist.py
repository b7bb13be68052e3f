"""The verbs of imagefactory catalogue that change what is said of a release: deprecate, revoke, reinstate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.common import DryRun, OneRelease
from imagefactory.cli.output import Json, answer, describe, leave, verb
from imagefactory.cli.session import PassphraseFile, factory_session
from imagefactory.errors import FactoryError, ReleaseUnknown
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.loop import Factory
from imagefactory.model.build import PublicationState
from imagefactory.model.listing import Listing, ListingState, Relisting
from imagefactory.model.release import ReleaseRef
from imagefactory.model.target import CataloguePlace, parse_place
from signing.errors import SigningError
from signing.trust import find_trust

Place = Annotated[
    Path | None,
    typer.Argument(
        metavar="CATALOGUE",
        help="The directory of one catalogue. Default: every one in which it is published.",
        show_default=False,
    ),
]
Replacement = Annotated[
    str | None,
    typer.Option("--replacement", metavar="RELEASE", help="NAME@VERSION to use instead.", show_default=False),
]


def register(app: typer.Typer) -> None:
    app.command(
        "deprecate",
        epilog="Example: imagefactory catalogue deprecate soe-12@20251121.1 --replacement soe-12@20251128.1",
    )(deprecate)
    app.command("revoke", epilog="Example: imagefactory catalogue revoke soe-12@20251121.1 --reason 'leaks a key'")(
        revoke
    )
    app.command("reinstate", epilog="Example: imagefactory catalogue reinstate soe-12@20251121.1")(reinstate)


@verb
def deprecate(
    release: OneRelease,
    catalogue: Place = None,
    replacement: Replacement = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Say in catalogues that nobody should begin with a release: it verifies as before, with a warning."""
    _relist(release, catalogue, ListingState.DEPRECATED, replacement, None, passphrase_file, dry_run, as_json)


@verb
def revoke(
    release: OneRelease,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, in one line for everybody.", show_default=False)
    ],
    catalogue: Place = None,
    replacement: Replacement = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Say in catalogues that nobody may use a release any more: it is refused, with the reason, for good.

    Its files stay where they are. Images in clouds stay, too, and do not verify any more.
    """
    _relist(release, catalogue, ListingState.REVOKED, replacement, reason, passphrase_file, dry_run, as_json)


@verb
def reinstate(
    release: OneRelease,
    catalogue: Place = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take a deprecation back. What was revoked stays so: what is good is published as a new version."""
    _relist(release, catalogue, ListingState.CURRENT, None, None, passphrase_file, dry_run, as_json)


def _relist(
    release: str,
    catalogue: Path | None,
    state: ListingState,
    replacement: str | None,
    reason: str | None,
    passphrase_file: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """One place that fails stops no other; the first failure is the exit code."""
    ref = ReleaseRef.parse(release).exact()
    change = Relisting(ref, state, ReleaseRef.parse(replacement).exact() if replacement else None, reason)
    changes: list[dict[str, Any]] = []
    lines: list[str] = []
    failures: list[FactoryError | SigningError] = []
    with factory_session(passphrase_file) as factory:
        catalogues = Catalogues(factory.settings, find_trust(factory.settings.trust_files()), factory.progress)
        for place in [catalogue.absolute()] if catalogue else _places(factory, ref):
            try:
                before = _listed(catalogues, place, ref)
                after = change.of(before)
                if not dry_run:
                    catalogues.relist(place, [change])
            except (FactoryError, SigningError) as error:
                failures.append(error)
                lines.append(f"{place}: {ref} is as before: {error.message}")
                changes.append({"catalogue": str(place), "error": describe(error)})
            else:
                lines.append(f"{place}: {ref} {'would be' if dry_run else 'is'} {after.state}, was {before.state}")
                changes.append({"catalogue": str(place), "before": str(before.state), "state": str(after.state)})
    document: dict[str, Any] = {"release": str(ref), "dry_run": dry_run, "catalogues": changes}
    if len(changes) == len(failures) == 1:
        raise failures[0]
    answer(document, "\n".join(lines), as_json)
    if failures:
        raise leave(failures[0], as_json)


def _listed(catalogues: Catalogues, place: Path, ref: ReleaseRef) -> Listing:
    found = catalogues.listing(place, ref)
    if found is None:
        raise ReleaseUnknown(f"{place} does not list {ref}")
    return found


def _places(factory: Factory, ref: ReleaseRef) -> Sequence[Path]:
    """The catalogues in which a release is published. Raises ReleaseUnknown."""
    found = []
    for publication in factory.records.release(ref).publications:
        place = parse_place(publication.target)
        if isinstance(place, CataloguePlace) and publication.state != PublicationState.WITHDRAWN:
            found.append(place.root)
    if not found:
        raise ReleaseUnknown(f"{ref} is in no catalogue, as far as is known here", advice="name the catalogue")
    return found
