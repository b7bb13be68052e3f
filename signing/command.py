"""`imagefactory-verify`: verification with the base install alone, and without a network.

Exit codes: 0 proved, 1 refused, 2 wrong usage. The only part of this room that prints, exits, and reads the
environment: IMAGEFACTORY_TRUST, once, in `main`.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from signing import verify
from signing.account import Account
from signing.digest import open_regular, read_document
from signing.errors import ManifestInvalid, SigningError
from signing.manifest import MANIFEST_FILE, Version
from signing.trust import find_trust, load_trust

SYSTEM_TRUST = "/etc/imagefactory/trust.json"


def main() -> NoReturn:
    """Verify what the command line names, and exit."""
    # Whoever stops us, or reads no more of what we say, ends us as any other program, and not with 0.
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    sys.exit(run(sys.argv[1:], os.environ.get("IMAGEFACTORY_TRUST") or SYSTEM_TRUST))


def run(argv: Sequence[str], default_trust: str = SYSTEM_TRUST) -> int:
    """Verify and print; return the exit code. Raises: SystemExit (2), for a wrong command line."""
    wanted = _arguments(argv, default_trust)
    rules = verify.FOLDER_RULES if wanted.folder else verify.FILE_RULES
    account = Account(verify.RULES, (*verify.BEGINNING, *verify.MANIFEST_RULES, *rules))
    lines, status = [], 0
    try:
        proof = _verify(wanted, account)
        document = {"verified": proof}
        lines = [f"  {name}  sha256:{digest}" for name, digest in sorted(proof["files"].items())]
        lines = [f"VERIFIED {proof['name']}@{proof['version']}", *lines, *(f"  {fact}" for fact in proof["facts"])]
    except SigningError as error:
        account.ended(error)
        document = {"error": {"code": error.code, "message": error.message, "advice": error.advice}}
        sys.stderr.write(f"error: {error.message} [{error.code}]\n  to do: {error.advice}\n")
        status = 1
    if wanted.json:
        lines = [json.dumps({**document, "rules": account.to_json()}, indent=2, sort_keys=True)]
    elif wanted.explain:
        lines = [*account.lines(), *lines]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    return status


def _arguments(argv: Sequence[str], default_trust: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "imagefactory-verify",
        description="Verify an image file, or a release folder, against the keys that you trust.",
        epilog="Exit codes: 0 proved, 1 refused, 2 wrong usage.",
        allow_abbrev=False,
    )
    parser.add_argument("target", type=_target, metavar="FILE|FOLDER")
    parser.add_argument("--trust", type=Path, default=Path(default_trust), help="The trust file. Default: %(default)s")
    parser.add_argument("--manifest", type=Path, help=f"Of a file. Default: {MANIFEST_FILE} beside it.")
    parser.add_argument("--name", help="The image name that is expected.")
    parser.add_argument("--min-version", help="The oldest version that is good enough.")
    parser.add_argument("--explain", action="store_true", help="Show every rule and how it came out.")
    parser.add_argument("--json", action="store_true", help="One JSON document on stdout.")
    wanted = parser.parse_args(argv)
    wanted.folder = os.path.isdir(wanted.target)  # noqa: PTH112 - Path.is_dir raises for names that are too long
    if wanted.manifest and wanted.folder:
        parser.error("--manifest is for a file: a folder has its own")
    if not Path(default_trust).is_absolute():
        parser.error("IMAGEFACTORY_TRUST is not an absolute path")
    try:
        wanted.min_version = None if wanted.min_version is None else Version.parse(wanted.min_version)
    except ManifestInvalid as why:
        parser.error(why.message)
    return wanted


def _target(text: str) -> Path:
    """An empty one would be the current directory. Raises: ArgumentTypeError."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text)


def _verify(wanted: argparse.Namespace, account: Account) -> dict[str, Any]:
    trust = load_trust(find_trust([wanted.trust]))
    account.passed(1, f"{len(trust.release)} release and {len(trust.provenance)} provenance keys")
    pinned: dict[str, Any] = {"now": datetime.now(UTC), "name": wanted.name, "min_version": wanted.min_version}
    if wanted.folder:
        folder = verify.verify_folder(wanted.target, trust, **pinned, account=account)
        signed, facts = folder.manifest, folder.facts
        files = {name: digests.sha256 for name, digests in folder.files.items()}
    else:
        fd = open_regular(wanted.target)
        account.passed(2, f"opened {str(wanted.target)!r}")
        raw = read_document(wanted.manifest or wanted.target.with_name(MANIFEST_FILE))
        signed = verify.verify_manifest(raw, trust, **pinned, account=account)
        file = verify.verify_file(fd, signed, account=account)
        files, facts = {file.file: file.digests.sha256}, file.facts
    said = {"files": files, "facts": list(facts), "warnings": []}  # what warns is a catalogue, and none was read
    return {"target": str(wanted.target), **signed.to_json(), **said}
