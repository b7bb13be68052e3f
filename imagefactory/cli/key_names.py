"""imagefactory keys trust: for which image names a key is believed."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

import typer

from imagefactory.cli.common import DryRun
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.revoke import KeyId
from imagefactory.cli.session import factory_session
from imagefactory.errors import ReleaseNameInvalid, UsageError
from imagefactory.factory.key_names import Limits, limit
from imagefactory.factory.revocation import ref
from imagefactory.model.release import NAME
from imagefactory.settings import read_settings
from signing.trust import EVERY_NAME


def register(app: typer.Typer) -> None:
    app.command("trust", epilog="Example: imagefactory keys trust 0123456789abcdef --name soe-debian-12")(trust)


@verb
def trust(
    key: KeyId,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="An image name, in full. Once for each.", show_default=False),
    ] = None,
    every_name: Annotated[bool, typer.Option("--every-name", help="Every image name, whatever comes.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Believe a release or provenance key for these image names alone.

    The names take the place of those that the trust file had for it. What the key signed for another name does not
    verify any more, wherever the new trust file arrives.
    """
    names = _named(name or [], every_name)
    settings = read_settings()
    with ExitStack() as stack:
        factory = stack.enter_context(factory_session(None)) if settings.has_records else None
        found = limit(settings, factory, key, names, dry_run=dry_run)
    answer(_document(found, dry_run), _text(found, dry_run), as_json)


def shown(names: Sequence[str]) -> str:
    """Image names of a key, for people."""
    if EVERY_NAME in names:
        return "every name"
    return ", ".join(names) or "-"


def _named(names: Sequence[str], every_name: bool) -> Sequence[str]:
    if bool(names) == every_name:
        raise UsageError("either --name, once or more, or --every-name")
    for each in names:
        if not NAME.fullmatch(each):
            raise ReleaseNameInvalid(f"{each[:64]!r} is not an image name")
    return [EVERY_NAME] if every_name else names


def _document(found: Limits, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "purpose": found.key.kind,
        "key": found.key.id,
        "before": list(found.before),
        "names": list(found.names),
        "trust": str(found.trust_file),
        "lost": [ref(each) for each in found.lost],
        "left": [f"imagefactory catalogue refresh {each}" for each in found.catalogues],
    }


def _text(found: Limits, dry_run: bool) -> str:
    verb = "would be believed" if dry_run else "is believed"
    lines = [f"{found.key.kind} {found.key.id[:16]} {verb} for {shown(found.names)}"]
    lines += [f"  lost       {ref(each)}" for each in found.lost]
    if not dry_run:
        lines += [f"to do: imagefactory catalogue refresh {each}" for each in found.catalogues]
        lines.append(
            "to do: imagefactory keys export DIR, and give DIR to every machine that verifies with a trust file"
        )
    return "\n".join(lines)
