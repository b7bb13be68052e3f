"""Our client of catalogues, under the command line that the public TUF conformance suite speaks to a client:

    client --metadata-dir DIR init ROOT
    client --metadata-dir DIR --metadata-url URL refresh
    client --metadata-dir DIR --metadata-url URL --target-name PATH [--target-name PATH ...] --target-base-url URL
           --target-dir DIR download

`refresh` is CatalogueClient's own. The targets that the suite asks for are no releases, and its roles no image names:
`download` is the session that CatalogueClient reads manifests with, which here may go through as many roles as
python-tuf's own client does. The trust store lies in DIR/trust; DIR/*.json are links to what it holds. The exit code is
1 for whatever the client refuses, with its code and message.
"""

import argparse
import dataclasses
import shutil
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tuf.ngclient import UpdaterConfig  # type: ignore[attr-defined]  # its __all__ is computed

from imagefactory.errors import FactoryError, TargetUnsupported
from imagefactory.tools.known_catalogue import KnownCatalogue, known_catalogue
from imagefactory.tools.trust_store import trust_store
from imagefactory.tools.tuf_client import CONFIG, PATIENCE, CatalogueClient, utc_now
from imagefactory.tools.tuf_session import refreshed

ANY_ROLES: Final = dataclasses.replace(CONFIG, max_delegations=UpdaterConfig().max_delegations)


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; 0 if that succeeded."""
    asked = _parser().parse_args(arguments)
    metadata = Path(asked.metadata_dir).resolve()
    try:
        if asked.command == "init":
            _init(metadata, Path(asked.root))
        elif asked.command == "refresh":
            _refresh(metadata, asked)
        else:
            _download(metadata, asked)
    except FactoryError as refused:
        sys.stderr.write(f"{refused.code}: {refused.message}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="client")
    parser.add_argument("--metadata-dir", required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


def _init(metadata: Path, root: Path) -> None:
    _given(metadata).parent.mkdir(mode=0o700)
    shutil.copyfile(root, _given(metadata))
    shutil.copyfile(root, metadata / "root.json")


def _refresh(metadata: Path, asked: argparse.Namespace) -> None:
    known = _known(metadata, asked)
    try:
        with CatalogueClient(known.address, known.store, root=known.root()) as client:
            client.refresh()
    finally:
        _show(known, metadata)


def _download(metadata: Path, asked: argparse.Namespace) -> None:
    known = _known(metadata, asked)
    if _parent(asked.target_base_url, "targets") != known.address:
        raise TargetUnsupported("the targets of a catalogue lie beside its metadata")
    try:
        with trust_store(known.store, PATIENCE) as store:
            session = refreshed(store, known.address, utc_now(), known.root(), PATIENCE, ANY_ROLES)
            for name in asked.target_name:
                target = session.target(name)
                if target is None:
                    raise TargetUnsupported(f"there is no target {name!r}")
                file = Path(asked.target_dir) / urllib.parse.quote(name, safe="")
                file.write_bytes(session.download(target))
    finally:
        _show(known, metadata)


def _known(metadata: Path, asked: argparse.Namespace) -> KnownCatalogue:
    where = _parent(asked.metadata_url, "metadata")
    return known_catalogue(where, metadata / "trust", [_given(metadata)])


def _parent(address: str, folder: str) -> str:
    """A catalogue has its files in two folders of fixed names."""
    where, _, last = address.rstrip("/").rpartition("/")
    if last != folder:
        raise TargetUnsupported(f"{address!r} is not the folder {folder} of a catalogue")
    return where


def _given(metadata: Path) -> Path:
    """The root that the client was initialised with."""
    return metadata / "trust" / "given"


def _show(known: KnownCatalogue, metadata: Path) -> None:
    """Have in `metadata` what the trust store holds."""
    for link in metadata.glob("*.json"):
        link.unlink()
    for file in (known.store / "metadata").glob("*.json"):
        (metadata / file.name).symlink_to(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
