"""The verbs of imagefactory catalogue that write: init, sign-root, publish-root, rotate, refresh."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import PassphraseFile, asker, with_passphrase
from imagefactory.errors import CatalogueConflict, UsageError
from imagefactory.factory import ceremony
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.ceremony import RootFacts
from imagefactory.factory.root_rotation import Turn, publish, rotate
from imagefactory.settings import Settings, read_settings
from imagefactory.store.lock import FileLocks
from imagefactory.tools.audit_log import AuditedSigner, AuditLog
from imagefactory.tools.durable import replace_file
from imagefactory.tools.key_directory import open_keys
from imagefactory.tools.known_catalogue import MAX_ROOT
from imagefactory.tools.new_file import new_file
from imagefactory.tools.passphrase import PassphraseSource
from imagefactory.tools.tuf_files import CatalogueFiles, metadata_path
from imagefactory.tools.tuf_root import read_root
from signing.digest import read_document
from signing.keys import KeyRing, PublicKey, Purpose
from signing.signer import Signer, signer_in
from signing.trust import find_trust

ROTATED: tuple[Purpose, ...] = ("root", "targets", "freshness")

Directory = Annotated[
    Path | None,
    typer.Argument(metavar="CATALOGUE", help="Its directory. Default: the built-in one.", show_default=False),
]
RootKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--root-key",
        metavar="FILE",
        help="A root key's public half, root.pub of a `keys init --root`. May be repeated.",
        readable=False,
    ),
]
Threshold = Annotated[
    int | None,
    typer.Option("--threshold", min=1, help="How many root keys sign together. Default: 2, or 1 of one.", metavar="N"),
]
Draft = Annotated[
    Path, typer.Option("--output", metavar="FILE", help="Where to write a root that is to be signed; a new file.")
]
Previous = Annotated[
    Path | None,
    typer.Option("--previous", metavar="FILE", help="The root before it, whose keys sign it, too.", readable=False),
]
RootDraft = Annotated[Path, typer.Argument(metavar="FILE", help="A root.", show_default=False, readable=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
DRAFT = Path("root.draft.json")


def register(app: typer.Typer) -> None:
    app.command("init", epilog="Example: imagefactory catalogue init --root-key a/root.pub --root-key b/root.pub")(init)
    app.command(
        "sign-root", epilog="Example: imagefactory catalogue sign-root root.draft.json --key /media/stick/root"
    )(sign_root)
    app.command("publish-root", epilog="Example: imagefactory catalogue publish-root root.draft.json")(publish_root)
    app.command("rotate", epilog="Example: imagefactory catalogue rotate targets")(rotate_)
    app.command("refresh", epilog="Example: imagefactory catalogue refresh")(refresh)


@verb
def init(
    catalogue: Directory = None,
    root_key: RootKeys = None,
    threshold: Threshold = None,
    output: Draft = DRAFT,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Begin a catalogue: at once with development keys, and otherwise with a root to be signed by root keys.

    With --root-key it writes that root. Each holder of a root key signs it with sign-root, and publish-root begins the
    catalogue.
    """
    settings = read_settings()
    where = _where(settings, catalogue)
    if CatalogueFiles(where).has_begun:
        raise CatalogueConflict(f"{where} is a catalogue already", advice="name another directory")
    keys, ring = _public_keys(root_key), KeyRing(settings.keys)
    if keys or not ring.development:
        if not keys:
            raise UsageError(
                "these keys are for production: their root keys are elsewhere",
                advice="make two with `imagefactory keys init --root DIR`, and name each with --root-key DIR/root.pub",
            )
        draft = ceremony.draft_first(ring, keys, threshold, datetime.now(UTC))
        _offer(where, draft, None, output, as_json, dry_run=dry_run)
        return
    if threshold is not None:
        raise UsageError("--threshold goes with --root-key")
    document: dict[str, Any] = {"catalogue": str(where), "dry_run": dry_run, "draft": None}
    if dry_run:
        answer(document, f"would begin the catalogue {where} with the development root key", as_json)
        return
    catalogues = _catalogues(settings)
    catalogues.begin(where)
    facts = ceremony.facts_of(catalogues.newest_root(where))
    text = f"{where} is a catalogue, and this machine trusts it\n" + "\n".join(_lines(facts))
    answer({**document, "root": facts.to_json()}, text, as_json)


@verb
def sign_root(
    file: RootDraft,
    key: Annotated[
        Path,
        typer.Option("--key", metavar="DIR", help="What `keys init --root` made.", show_default=False, readable=False),
    ],
    previous: Previous = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Sign a root with a root key, in its place. No catalogue and no network are needed.

    What it says is shown: compare the keys with what their holders told you. --dry-run only shows it.
    """
    settings = read_settings()
    raw, before, shown = _read(file), _read(previous) if previous else None, ""
    if not dry_run:
        signer = signer_in(open_keys(key, PassphraseSource(key, passphrase_file, asker())), "root")
        raw, shown = ceremony.sign_draft(raw, _audited(settings, signer, raw), before), signer.keyid[:16]
        replace_file(file, raw)
    facts = ceremony.facts_of(raw, before)
    said = f"{file} is signed with the root key {shown}" if shown else f"{file} is not signed by this"
    lines = [said, *_lines(facts), *_signature_lines(facts)]
    answer({"file": str(file), "dry_run": dry_run, "root": facts.to_json()}, "\n".join(lines), as_json)


@verb
def publish_root(
    file: RootDraft, catalogue: Directory = None, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """Publish a root that enough root keys have signed: the first begins a catalogue, another one follows the newest.

    Done again, it finishes what was interrupted. Keys that a root replaces are destroyed when no catalogue that this
    factory publishes to names them any more.
    """
    settings = with_passphrase(read_settings(), passphrase_file)
    where, root = _where(settings, catalogue), _read(file)
    facts = ceremony.facts_of(root)
    with FileLocks(settings.home / "locks").whole():
        turn = publish(_catalogues(settings), where, root)
    document = {"catalogue": str(where), "root": facts.to_json(), **_turned(turn)}
    lines = [f"{where} has root {facts.version}", *_lines(facts), *_turn_lines(turn, where)]
    answer(document, "\n".join(lines), as_json)


@verb
def rotate_(
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help="root, targets or freshness.", show_default=False)],
    catalogue: Directory = None,
    root_key: RootKeys = None,
    threshold: Threshold = None,
    output: Draft = DRAFT,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Replace the targets or freshness key of a catalogue, or its root keys; or have the same root for another year.

    The root that says so is written to be signed: with the old root keys, and with the new ones where there are such.
    Until it is published, nothing changes. With a development root key it is signed and published at once.
    """
    settings = with_passphrase(read_settings(), passphrase_file)
    name = next((each for each in ROTATED if each == purpose), None)
    if name is None:
        raise UsageError(f"{purpose} is no purpose of a catalogue's key", advice=f"one of {', '.join(ROTATED)}")
    keys = _public_keys(root_key)
    if name != "root" and (keys or threshold is not None):
        raise UsageError("--root-key and --threshold go with root")
    where, catalogues = _where(settings, catalogue), _catalogues(settings)
    previous = catalogues.newest_root(where)
    if dry_run:
        version = read_root(previous).signed.version
        text = f"would replace the {name} key of {where}, by root {version + 1}"
        answer({"catalogue": str(where), "dry_run": True, "purpose": name, "root": version + 1}, text, as_json)
        return
    with FileLocks(settings.home / "locks").whole():
        turn = rotate(catalogues, where, name, root_keys=keys, threshold=threshold, now=datetime.now(UTC))
    if turn.draft is not None:
        _offer(where, turn.draft, previous, output, as_json, dry_run=False)
        return
    facts = ceremony.facts_of(catalogues.newest_root(where))
    document = {"catalogue": str(where), "dry_run": False, "draft": None, "root": facts.to_json(), **_turned(turn)}
    lines = [f"{where} has root {facts.version}", *_lines(facts), *_turn_lines(turn, where)]
    answer(document, "\n".join(lines), as_json)


@verb
def refresh(catalogue: Directory = None, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Sign anew what clients want fresh, so that they see that nobody hides something newer: for a timer, every day.

    The timestamp lasts for two days. What has less than half of its time left is signed as well, and the trust policy
    is published if the trust file is another one by now.
    """
    settings = with_passphrase(read_settings(), passphrase_file)
    where = _where(settings, catalogue)
    done = _catalogues(settings).refresh(where)
    lines = [f"{where} is fresh", *(f"  {path}" for path in done.written)]
    lines += [f"overdue: {role}" for role in done.overdue]
    if "root" in done.overdue:
        lines.append(f"to do: imagefactory catalogue rotate root {where}")
    document = {"catalogue": str(where), "written": list(done.written), "overdue": list(done.overdue)}
    answer(document, "\n".join(lines), as_json)


def _where(settings: Settings, catalogue: Path | None) -> Path:
    return (catalogue or settings.catalogue).absolute()


def _catalogues(settings: Settings) -> Catalogues:
    return Catalogues(settings, find_trust(settings.trust_files()))


def _public_keys(files: list[Path] | None) -> list[PublicKey]:
    return [ceremony.read_public_key(file, "root") for file in files or []]


def _read(file: Path) -> bytes:
    return read_document(file, most=MAX_ROOT)


def _audited(settings: Settings, signer: Signer, root: bytes) -> Signer:
    """Where there is an audit log, the use of a root key is in it, too."""
    if not settings.audit.exists():
        return signer
    return AuditedSigner(signer, AuditLog(settings.audit), f"root {read_root(root).signed.version}")


def _offer(where: Path, draft: bytes, previous: bytes | None, output: Path, as_json: bool, *, dry_run: bool) -> None:
    """Write a root that others have to sign."""
    facts = ceremony.facts_of(draft, previous)
    before = None if previous is None else where / metadata_path("root", facts.version - 1)
    if not dry_run:
        with new_file(output) as made:
            made.write_bytes(draft)
    also = f" --previous {before}" if before else ""
    lines = [
        f"{output} {'would be' if dry_run else 'is'} root {facts.version} of {where}, to be signed",
        *_lines(facts),
        *_signature_lines(facts),
        f"to do: imagefactory catalogue sign-root {output} --key DIR{also}  # each holder of a root key",
        f"then:  imagefactory catalogue publish-root {output} {where}",
    ]
    document = {"catalogue": str(where), "dry_run": dry_run, "draft": str(output), "root": facts.to_json()}
    answer({**document, "previous": str(before) if before else None}, "\n".join(lines), as_json)


def _lines(facts: RootFacts) -> list[str]:
    lines = [f"  version   {facts.version}, until {facts.expires:%Y-%m-%d}"]
    for purpose, keyids in facts.keys.items():
        together = f", {facts.threshold} together" if purpose == "root" else ""
        lines.append(f"  {purpose:9} {', '.join(each[:16] for each in keyids)}{together}")
    return lines


def _signature_lines(facts: RootFacts) -> list[str]:
    return [f"  signed    {each.found} of {each.threshold} by the keys of root {each.of}" for each in facts.signatures]


def _turned(turn: Turn) -> dict[str, Any]:
    replaced = [{"purpose": each.name, "old": each.old, "new": each.new} for each in turn.replaced]
    return {"replaced": replaced, "waited_for": list(map(str, turn.waited_for))}


def _turn_lines(turn: Turn, where: Path) -> list[str]:
    lines = [f"  {each.name:9} {each.old[:16]} -> {each.new[:16]}" for each in turn.replaced]
    lines += [f"the old key is kept for {each}" for each in turn.waited_for if each != where]
    return lines
