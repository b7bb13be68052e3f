"""imagefactory keys revoke: a key is no longer believed, and what it signed is signed again or withdrawn."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import PassphraseFile, factory_session, read_recipe
from imagefactory.errors import RecipeError
from imagefactory.factory import revocation
from imagefactory.factory.key_notes import note_rotated
from imagefactory.factory.loop import Factory
from imagefactory.factory.revocation import Revocable
from imagefactory.factory.rotation import finish
from imagefactory.model.build import PublicationState
from imagefactory.settings import Settings, read_settings
from imagefactory.store.lock import lock_all
from imagefactory.store.records import release_version
from imagefactory.store.tables import Publication, Release
from imagefactory.tools.audit_log import AuditLog
from signing.keys import KeyRing
from signing.trust import find_trust, load_trust

KeyId = Annotated[
    str,
    typer.Argument(metavar="KEY", help="The first digits of its id, 8 or more: see keys list.", show_default=False),
]


@dataclass
class Outcome:
    """What was found and done. `left` are commands for what was not."""

    key: Revocable
    dry_run: bool
    affected: Sequence[Release] = ()
    withdrawn: Sequence[str] = ()
    signed: Sequence[str] = ()
    left: Sequence[str] = ()


def register(app: typer.Typer) -> None:
    app.command("revoke", epilog="Example: imagefactory keys revoke 0123456789abcdef --re-sign --withdraw")(revoke)


@verb
def revoke(
    key: KeyId,
    re_sign: Annotated[
        bool, typer.Option("--re-sign", help="Build the newest release of each image again, under a new version.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take back every release that it signed, wherever it is published.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it signed, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Take a release or provenance key, or a Glance CA, out of the trust file.

    Published versions are never replaced: what is signed again gets a new version. Run again for the same key, it goes
    on with what is left.
    """
    settings = read_settings()
    with ExitStack() as stack:
        factory = stack.enter_context(factory_session(passphrase_file)) if settings.database.exists() else None
        outcome = _revoke(settings, factory, key, dry_run)
        if factory is not None:
            _follow(factory, outcome, re_sign=re_sign, withdraw=withdraw)
    answer(_document(outcome), _text(outcome), as_json)


def _revoke(settings: Settings, factory: Factory | None, prefix: str, dry_run: bool) -> Outcome:
    trust_file = find_trust(settings.trust_files())
    log = AuditLog(settings.audit)
    with ExitStack() as stack:
        if settings.home.exists():
            stack.enter_context(lock_all(settings.home / "locks"))
        ring = None
        if settings.keys.exists():
            if not dry_run:
                finish(settings.keys, trust_file, partial(note_rotated, settings))
            ring = KeyRing(settings.keys)
        trust = load_trust(trust_file)
        key = revocation.choose(revocation.revocable(trust, ring), prefix)
        revocation.check_revocable(trust, key)
        outcome = Outcome(key, dry_run)
        if factory is not None:
            outcome.affected = revocation.signed_with(key, factory.records, factory.artifacts)
        if key.trusted and not dry_run:
            if settings.home.exists():
                log.append("key-revoked", purpose=key.kind, keyid=key.id)
            revocation.revoke(trust_file, key)
    return outcome


def _follow(factory: Factory, outcome: Outcome, *, re_sign: bool, withdraw: bool) -> None:
    """Withdraw and sign again what is asked for, and say what is left."""
    public = [(release, each) for release in outcome.affected for each in release.publications if _is_there(each)]
    recipes = _recipes(factory, outcome.affected)
    left: list[str] = []
    again = f"imagefactory keys revoke {outcome.key.id[:16]}"
    if withdraw and not outcome.dry_run:
        outcome.withdrawn = [_withdraw(factory, release, publication) for release, publication in public]
    elif public:
        left.append(f"{again} --withdraw")
    if re_sign and not outcome.dry_run:
        signed = []
        for name, recipe in recipes.items():
            try:
                release = factory.build(read_recipe(recipe, factory.settings)).release
            except RecipeError as error:
                left.append(f"imagefactory build RECIPE  # of {name}: {error.message}")
            else:
                signed.append(_ref(release))
        outcome.signed = signed
    elif recipes:
        left.append(f"{again} --re-sign")
    outcome.left = left


def _withdraw(factory: Factory, release: Release, publication: Publication) -> str:
    AuditLog(factory.settings.audit).append("release-withdrawn", release=_ref(release), target=publication.target)
    factory.withdraw(release, publication)
    return f"{publication.target}: {_ref(release)}"


def _is_there(publication: Publication) -> bool:
    return publication.state != PublicationState.WITHDRAWN


def _recipes(factory: Factory, affected: Sequence[Release]) -> dict[str, Path]:
    """The recipe of each image whose newest release is affected."""
    lost = {release.id for release in affected}
    found: dict[str, Path] = {}
    for name in dict.fromkeys(release.name for release in affected):
        newest = factory.records.releases(name)[0]
        if newest.id in lost:
            builds = {build.id: build for build in factory.records.builds(name)}
            found[name] = Path(builds[newest.build_id].recipe_file)
    return found


def _ref(release: Release) -> str:
    return f"{release.name}@{release_version(release)}"


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "dry_run": outcome.dry_run,
        "purpose": outcome.key.kind,
        "key": outcome.key.id,
        "releases": [
            {"release": _ref(release), "published": [each.target for each in release.publications if _is_there(each)]}
            for release in outcome.affected
        ],
        "withdrawn": list(outcome.withdrawn),
        "signed": list(outcome.signed),
        "left": list(outcome.left),
    }


def _text(outcome: Outcome) -> str:
    key = outcome.key
    what = "would be revoked" if outcome.dry_run else "is revoked" if key.trusted else "was revoked before"
    lines = [f"{key.kind} {key.id[:16]} {what}"]
    for release in outcome.affected:
        places = ", ".join(each.target for each in release.publications if _is_there(each)) or "nowhere"
        lines.append(f"  signed     {_ref(release)}, published {places}")
    lines += [f"  withdrawn  {each}" for each in outcome.withdrawn]
    lines += [f"  now        {each}" for each in outcome.signed]
    lines += [f"to do: {each}" for each in outcome.left]
    if not outcome.dry_run:
        lines.append("to do: imagefactory keys export DIR, and give DIR to every machine that verifies")
    return "\n".join(lines)
