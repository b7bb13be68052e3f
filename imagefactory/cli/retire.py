"""imagefactory promote, approve, rollback, deprecate, restore, revoke: what people decide about releases."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from imagefactory.cli.common import DryRun, OneRelease, image_name
from imagefactory.cli.output import Json, answer, describe, leave, verb
from imagefactory.cli.session import PassphraseFile, factory_session
from imagefactory.errors import PlacesLeft
from imagefactory.model.release import ReleaseRef

if TYPE_CHECKING:
    from imagefactory.factory.derived import Derived
    from imagefactory.lifecycle.places import Settlement
    from imagefactory.lifecycle.verbs import Decision, Verbs

_WHY: Final = typer.Option("--reason", metavar="TEXT", help="Why, in one line.", show_default=False)
Reason = Annotated[str, _WHY]
MaybeReason = Annotated[str | None, _WHY]


def register(app: typer.Typer) -> None:
    for command, example in (
        (promote, "promote soe-debian-12@20251128.1"),
        (approve, "approve soe-debian-12@20251128.1"),
        (rollback, "rollback soe-debian-12 --reason 'the agent does not start'"),
        (deprecate, "deprecate soe-debian-12@20251128.1 --reason 'too old for the new network'"),
        (restore, "restore soe-debian-12@20251121.1"),
        (revoke, "revoke soe-debian-12@20251121.1 --reason 'leaks a key'"),
    ):
        app.command(command.__name__, epilog=f"Example: imagefactory {example}")(command)


@verb
def promote(
    release: OneRelease,
    to: Annotated[
        str | None, typer.Option("--to", metavar="CHANNEL", help="Default: the next one.", show_default=False)
    ] = None,
    reason: MaybeReason = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Move a release to the next channel; the newest on stable has the name."""
    _decide(lambda verbs: verbs.promote(ReleaseRef.parse(release), to, reason), passphrase_file, dry_run, as_json)


@verb
def approve(
    release: OneRelease,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Say that a release may become stable, where its recipe wants others to say so."""
    _decide(lambda verbs: verbs.approve(ReleaseRef.parse(release)), passphrase_file, dry_run, as_json)


@verb
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of an image.", show_default=False)],
    reason: Reason,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give the name back to the release that had it before, everywhere."""
    _decide(lambda verbs: verbs.rollback(image_name(name), reason), passphrase_file, dry_run, as_json)


@verb
def deprecate(
    release: OneRelease,
    reason: Reason,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Hide a release everywhere, and give its name to the newest other one."""
    _decide(lambda verbs: verbs.deprecate(ReleaseRef.parse(release), reason), passphrase_file, dry_run, as_json)


@verb
def restore(
    release: OneRelease,
    reason: MaybeReason = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take back a deprecation, a rollback, or the deactivation of an obsolete release."""
    _decide(lambda verbs: verbs.restore(ReleaseRef.parse(release), reason), passphrase_file, dry_run, as_json)


@verb
def revoke(
    release: OneRelease,
    reason: Reason,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Withdraw a bad release everywhere, for good; say what was built from it.

    Images are deactivated, catalogues refuse it with the reason, and the name goes to the newest good release.
    """
    ref = ReleaseRef.parse(release)
    _decide(lambda verbs: verbs.revoke(ref, reason), passphrase_file, dry_run, as_json, derived=True)


def _decide(
    decide: "Callable[[Verbs], Decision]",
    passphrase_file: Path | None,
    dry_run: bool,
    as_json: bool,
    *,
    derived: bool = False,
) -> None:
    """Record a decision and show it in every place. A place that fails stops no other; what is left is told."""
    with factory_session(passphrase_file) as factory:
        office = factory.office
        decision = decide(office.verbs)
        built = office.derived(decision.ref) if derived else None
        settlements = [] if dry_run else office.verbs.carry_out(decision)
    document = {
        "release": str(decision.ref),
        "decision": decision.words,
        "dry_run": dry_run,
        **(_derived_document(built) if built else {}),
        **settled_document(settlements),
    }
    lines = [f"would be: {decision.words}" if dry_run else decision.words, *settled_lines(settlements)]
    lines += _derived_lines(built) if built else []
    answer(document, "\n".join(lines), as_json)
    leave_unsettled(settlements, as_json)


def _derived_document(built: "Derived") -> dict[str, Any]:
    return {"derived": list(map(str, built.releases)), "derived_unknown": list(map(str, built.unknown))}


def _derived_lines(built: "Derived") -> list[str]:
    lines = [f"  built from it: {each}" for each in built.releases]
    return [*lines, *(f"  perhaps built from it, its provenance is not here: {each}" for each in built.unknown)]


def settled_document(settlements: "Sequence[Settlement]") -> dict[str, Any]:
    """What became of places, as JSON."""
    return {
        "done": [
            {
                "release": str(order.ref),
                "target": order.publication.target,
                "stage": str(order.standing.stage),
                "name": order.look.name,
                "hidden": order.look.hidden,
            }
            for settlement in settlements
            for order in settlement.done
        ],
        "left": [
            {"release": str(left.ref), "target": left.target, "error": describe(left.failure)}
            for settlement in settlements
            for left in settlement.left
        ],
    }


def settled_lines(settlements: "Sequence[Settlement]") -> list[str]:
    """The same for people, a line each."""
    lines = []
    for settlement in settlements:
        for order in settlement.done:
            shown = "has the name" if not order.look.hidden else str(order.standing.stage)
            lines.append(f"  {order.publication.target}: {order.ref} {shown}")
        for left in settlement.left:
            lines.append(f"  {left.target}: {left.ref} is as before: {left.failure.message}")
    return lines


def leave_unsettled(settlements: "Sequence[Settlement]", as_json: bool) -> None:
    """End with an error when some place does not show yet what was decided."""
    left = [each for settlement in settlements for each in settlement.left]
    if left:
        places = ", ".join(sorted({each.target for each in left}))
        raise leave(PlacesLeft(f"it is recorded, and {places} does not show it yet: {left[0].failure}"), as_json)
