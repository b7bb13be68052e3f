"""imagefactory keys revoke: a key is no longer believed, and what it signed is signed again or withdrawn."""

from contextlib import ExitStack
from typing import Annotated, Any

import typer

from imagefactory.cli.output import Json, answer, describe, leave, verb
from imagefactory.cli.session import PassphraseFile, factory_session, read_recipe
from imagefactory.factory import revocation
from imagefactory.factory.revocation import Outcome, is_there, ref
from imagefactory.settings import read_settings

KeyId = Annotated[
    str,
    typer.Argument(metavar="KEY", help="The first digits of its id, 8 or more: see keys list.", show_default=False),
]


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

    Published versions are never replaced: what is signed again gets a new version. What fails stops nothing else: it is
    told at the end, and its exit code is that of the command. Run again for the same key, it goes on with what is left.
    """
    settings = read_settings()
    with ExitStack() as stack:
        factory = stack.enter_context(factory_session(passphrase_file)) if settings.has_records else None
        outcome = revocation.begin(settings, factory, key, dry_run=dry_run)
        if factory is not None:
            revocation.follow(factory, outcome, read_recipe, re_sign=re_sign, withdraw=withdraw)
    answer(_document(outcome), _text(outcome), as_json)
    if outcome.failures:
        raise leave(outcome.failures[0], as_json)


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "dry_run": outcome.dry_run,
        "purpose": outcome.key.kind,
        "key": outcome.key.id,
        "releases": [
            {"release": ref(release), "published": [each.target for each in release.publications if is_there(each)]}
            for release in outcome.affected
        ],
        "withdrawn": list(outcome.withdrawn),
        "signed": list(outcome.signed),
        "left": list(outcome.left),
        **({"error": describe(outcome.failures[0])} if outcome.failures else {}),
    }


def _text(outcome: Outcome) -> str:
    key = outcome.key
    what = "would be revoked" if outcome.dry_run else "is revoked" if key.trusted else "was revoked before"
    lines = [f"{key.kind} {key.id[:16]} {what}"]
    for release in outcome.affected:
        places = ", ".join(each.target for each in release.publications if is_there(each)) or "nowhere"
        lines.append(f"  signed     {ref(release)}, published {places}")
    lines += [f"  withdrawn  {each}" for each in outcome.withdrawn]
    lines += [f"  now        {each}" for each in outcome.signed]
    lines += [f"to do: {each}" for each in outcome.left]
    if not outcome.dry_run:
        lines.append("to do: imagefactory keys export DIR, and give DIR to every machine that verifies")
    return "\n".join(lines)
