"""imagefactory keys: made on request, never on the fly; replaced, revoked, and handed out."""

import os
import pwd
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli import key_names, revoke
from imagefactory.cli.common import TrustFile
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import PassphraseFile, asker, with_passphrase
from imagefactory.cli.tables import print_table, table_of
from imagefactory.errors import UsageError
from imagefactory.factory import approvals, key_inventory, key_notes
from imagefactory.factory.keys import Custody, init_keys, init_root
from imagefactory.factory.provision import provision
from imagefactory.factory.rotation import Rotated, Rotation, rotate
from imagefactory.model.job import Role
from imagefactory.settings import Settings, read_settings
from imagefactory.store.lock import FileLocks
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.durable import translated
from imagefactory.tools.passphrase import new_passphrase
from imagefactory.tools.trusted_roots import TrustedRoots
from signing.keys import PURPOSES, KeyRing
from signing.token_uri import TokenUri
from signing.trust import Trust, find_trust, load_trust

ROTATED: tuple[Rotated, ...] = ("release", "provenance", "glance", "glance-ca")
app = typer.Typer(no_args_is_help=True, help="The keys of this factory, one for each purpose.")
revoke.register(app)
key_names.register(app)


@app.command("init", epilog="Example: imagefactory keys init --passphrase-file /run/credentials/imagefactory")
@verb
def init(
    development: Annotated[
        bool, typer.Option("--development", help="Keys in plain files, marked so; never for a public image.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Keep a random passphrase in the keyring of the operating system.")
    ] = False,
    signer: Annotated[
        str | None,
        typer.Option("--signer", metavar="URI", help="Make them in a token: pkcs11:token=...", show_default=False),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="Make one root key instead, in a new directory on a stick.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key for each purpose, and the trust file that believes them.

    Without --development they are encrypted, with a passphrase that is asked for, or comes from a file or the keyring.
    The root keys of catalogues are made one by one with --root; only development keys have one among them.
    """
    settings = read_settings()
    if root is not None:
        if development or keyring:
            raise UsageError("a root key lies on a stick, encrypted: --root goes with no --development or --keyring")
        _init_root(settings, root, passphrase_file, signer, as_json)
        return
    file = passphrase_file or settings.passphrase_file
    if development and (passphrase_file or keyring):
        raise UsageError("development keys are not encrypted: --development goes with no passphrase")
    if keyring and passphrase_file:
        raise UsageError("--keyring and --passphrase-file are two places for one passphrase")
    token = TokenUri.parse(signer) if signer else None
    trust = settings.home / "trust.json"
    key_inventory.require_room(settings.keys, trust)
    passphrase = None if development else new_passphrase(settings.keys, file, asker(), keyring=keyring)
    with translated(settings.home):
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLocks(settings.home / "locks").whole():
        ring = init_keys(
            settings.keys,
            trust,
            Custody(passphrase, token),
            development=development,
            keyring=keyring,
            now=datetime.now(UTC),
            note=partial(key_notes.note_made, settings),
        )
    made = dict(ring.metadata.keyids)
    where = {"directory": str(settings.keys), "trust": str(trust), "policy": str(approvals.where(settings))}
    lines = [f"{purpose:10} {keyid}" for purpose, keyid in made.items()]
    lines += [f"keys   {where['directory']}", f"trust  {where['trust']}", f"policy {where['policy']}"]
    answer({"keys": made, **where}, "\n".join(lines), as_json)


def _init_root(
    settings: Settings, directory: Path, passphrase_file: Path | None, signer: str | None, as_json: bool
) -> None:
    """Where there is an audit log, the new key is in it: a machine that makes root keys need not be this factory."""
    key_inventory.require_empty(directory)
    token = TokenUri.parse(signer) if signer else None
    passphrase = None if token else new_passphrase(directory, passphrase_file, asker(), keyring=False)
    ring = init_root(directory.absolute(), Custody(passphrase, token), now=datetime.now(UTC))
    keyid = ring.keyid("root")
    if settings.audit.exists():
        AuditLog(settings.audit).append("key-made", purpose="root", keyid=keyid)
    public = directory / f"{ring.metadata.stem('root')}.pub"
    lines = [
        f"root       {keyid}",
        f"keys   {directory}",
        f"to do: imagefactory catalogue init --root-key {public}  # with the other root keys",
    ]
    answer({"keys": {"root": keyid}, "directory": str(directory), "public": str(public)}, "\n".join(lines), as_json)


@app.command("list", epilog="Example: imagefactory keys list")
@verb
def list_(trust: TrustFile = None, as_json: Json = False) -> None:
    """List the keys that are here, and those that the trust file believes."""
    settings = read_settings()
    believed, ring = _looked_up(settings, trust)
    found = key_inventory.inventory(believed, ring, _root(settings))
    if as_json:
        answer({"keys": [each.to_json() for each in found]}, "", as_json)
        return
    table = table_of("PURPOSE", "KEY", "CREATED", "TRUSTED", "NAMES", "EXPIRES", "WHERE")
    for each in found:
        created = f"{each.created:%Y-%m-%d}" if each.created else "-"
        expires = f"{each.expires:%Y-%m-%d}" if each.expires else "-"
        trusted = {True: "yes", False: "no", None: "-"}[each.trusted]
        where = (each.where or "not here") + (" (development)" if each.development else "")
        table.add_row(each.purpose, each.keyid[:16], created, trusted, key_names.shown(each.names), expires, where)
    print_table(table)


@app.command("rotate", epilog="Example: imagefactory keys rotate release")
@verb
def rotate_(
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help=f"{', '.join(ROTATED)}.", show_default=False)],
    passphrase_file: PassphraseFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Replace a key. The trust file believes the old one and the new one until the old one is revoked.

    glance gets a new key and certificate by the same CA, glance-ca a new CA, key and certificate. Interrupted, it
    finishes when it is run again.
    """
    settings = with_passphrase(read_settings(), passphrase_file)
    name = next((each for each in ROTATED if each == purpose), None)
    if name is None and purpose in PURPOSES:
        raise UsageError(
            f"which {purpose} key counts is said by the root of a catalogue",
            advice=f"imagefactory catalogue rotate {purpose}",
        )
    if name is None:
        raise UsageError(f"{purpose} is no purpose of a key", advice=f"one of {', '.join(ROTATED)}")
    trust_file = find_trust(settings.trust_files())
    if dry_run:
        ring = KeyRing(settings.keys)
        old = key_inventory.current(ring, name)
        text = f"would replace the {name} key {old[:16]} in {settings.keys} and change {trust_file}"
        answer({"dry_run": True, "purpose": name, "old": old, "trust": str(trust_file)}, text, as_json)
        return
    with FileLocks(settings.home / "locks").whole():
        key_notes.require_policy(settings, name)
        done = rotate(
            settings.keys,
            trust_file,
            name,
            settings.passphrase,
            now=datetime.now(UTC),
            note=partial(key_notes.note_rotated, settings),
            issuing=partial(key_notes.note_issued, settings),
        )
    answer(_rotated(done, trust_file), _told(done, trust_file), as_json)


@app.command("export", epilog="Example: imagefactory keys export public")
@verb
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.", show_default=False)],
    trust: TrustFile = None,
    as_json: Json = False,
) -> None:
    """Write what other machines need: the trust file, the release key for openssl, the Glance CA, and the root of the
    built-in catalogue if there is one. Nothing private."""
    settings = read_settings()
    believed = load_trust(find_trust(settings.trust_files(trust)))
    written = key_inventory.export(believed, KeyRing(settings.keys), directory, _root(settings))
    lines = [str(directory / name) for name in written]
    answer({"directory": str(directory), "files": list(written)}, "\n".join(lines), as_json)


@app.command("provision", epilog="Example: imagefactory keys provision sign /var/lib/imagefactory/sign")
@verb
def provision_role(
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="build, test, sign, publish or lifecycle.")],
    home: Annotated[Path, typer.Argument(metavar="HOME", help="A new directory.", show_default=False)],
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="USER", help="Whose it is. Default: yours.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the home of a worker: of the keys here those that its role has, and whom it trusts.

    The home of the role sign gets the signer's memory, too: sign nowhere else from then on.
    """
    written = provision(read_settings(), role, home, _account(owner) if owner else None)
    lines = [str(home / name) for name in written]
    answer({"home": str(home), "role": role, "files": list(written)}, "\n".join(lines), as_json)


def _account(name: str) -> tuple[int, int]:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"there is no user {name!r}", advice="make it, for instance with adduser --system") from None
    return found.pw_uid, found.pw_gid


def _root(settings: Settings) -> bytes | None:
    """The root of the built-in catalogue, as the signer knows it."""
    return TrustedRoots(settings.signed).of(settings.catalogue)


def _looked_up(settings: Settings, trust: Path | None) -> tuple[Trust | None, KeyRing | None]:
    """The trust file and the key directory, as far as there are such."""
    files = settings.trust_files(trust)
    named = trust or settings.trust
    believed = load_trust(find_trust(files)) if named or any(map(os.path.lexists, files)) else None
    return believed, KeyRing(settings.keys) if settings.keys.exists() else None


def _rotated(done: Rotation, trust_file: Path) -> dict[str, Any]:
    replaced = [{"purpose": each.name, "old": each.old, "new": each.new} for each in done.replaced]
    return {"dry_run": False, "replaced": replaced, "trust": str(trust_file), "trust_changed": done.trust_changed}


def _told(done: Rotation, trust_file: Path) -> str:
    lines = [f"{each.name:10} {each.old[:16]} -> {each.new[:16]}" for each in done.replaced]
    if done.trust_changed:
        lines += [
            f"trust      {trust_file} believes both",
            "to do: imagefactory keys export DIR, and give DIR to every machine that verifies",
            *(f"then:  imagefactory keys revoke {each.old[:16]}" for each in done.replaced if each.name != "glance"),
        ]
    return "\n".join(lines)
