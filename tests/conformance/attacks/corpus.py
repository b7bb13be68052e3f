"""How a case is written down: a directory that says in its name what must come of it, and in case.json all the rest.

::

    {"attack": what was done, and why it would matter,
     "verify": "folder", "file", "manifest", "trust", or "sign" (the signer is asked to),
     "path": what is verified, relative to the case, "trust": the trust file, relative to it too,
     "now": TIME, "name": NAME or null, "min_version": VERSION or null,
     "code": the error code that must come, or null where the case is good,
     "before": [STEP, ...] done to a copy of the case before it is verified,
     "during": [STEP, ...] done as soon as the first bytes of an image were read}

A step is {"do": ACTION, "path": PATH, ...}, for what a repository cannot hold: links, pipes, holes, races.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from signing.fields import format_time
from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.spoil import Spoil
from tests.conformance.attacks.steps import Steps
from tests.conformance.attacks.workshop import Workshop
from tests.unit.signing.builders import NAME, NOW

TRUST = "trust.json"


class Corpus:
    """A directory of cases, against the trust file of one workshop. `stranger` is another maker, trusted by none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shop, self.stranger = Workshop(), Workshop()
        root.mkdir(parents=True, exist_ok=True)
        (root / TRUST).write_bytes(self.shop.trust.encode())
        self.files = self.shop.release_files()

    def add(
        self,
        name: str,
        code: str | None,
        attack: str,
        files: Mapping[str, bytes],
        *,
        verify: str,
        path: str,
        trust: bytes | None = None,
        now: datetime = NOW,
        expected: str | None = NAME,
        min_version: str | None = None,
        before: Steps = (),
        during: Steps = (),
    ) -> Path:
        """Write one case and return its directory."""
        case = self.root / (f"{name}_pass" if code is None else f"{name}_fail_{code}")
        case.mkdir()
        for each, content in files.items():
            (case / each).parent.mkdir(parents=True, exist_ok=True)
            (case / each).write_bytes(content)
        if trust is not None:
            (case / TRUST).write_bytes(trust)
        document = {
            "attack": attack,
            "verify": verify,
            "path": path,
            "trust": f"../{TRUST}" if trust is None else TRUST,
            "now": format_time(now),
            "name": expected,
            "min_version": min_version,
            "code": code,
            "before": list(before),
            "during": list(during),
        }
        (case / "case.json").write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n")
        return case

    def folder(
        self,
        name: str,
        code: str | None,
        attack: str,
        spoil: Spoil | None = None,
        *,
        signed_again: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> None:
        """A published release, spoilt; with `signed_again` its SHA256SUMS are those of the spoilt folder."""
        case = self.add(name, code, attack, {}, verify="folder", path="release", **options)
        write_folder(self.shop, case / "release", self.files)
        if spoil is not None:
            spoil(case / "release")
        if signed_again:
            self.shop.checksums(case / "release")

    def folders(self, code: str, cases: Mapping[str, tuple[str, Spoil]], *, signed_again: bool = False) -> None:
        """Spoilt releases that are refused with one code: by their names, the attack and how it spoils the folder."""
        for name, (attack, spoil) in cases.items():
            self.folder(name, code, attack, spoil, signed_again=signed_again)

    def prepared(self, code: str, cases: Mapping[str, tuple[str, Steps]]) -> None:
        """Good releases to which something is done before verification: by their names, the attack and the steps."""
        for name, (attack, before) in cases.items():
            self.folder(name, code, attack, before=before)

    def manifest(self, name: str, code: str | None, attack: str, raw: bytes, **options: Any) -> None:  # noqa: ANN401
        """A release.sigstore.json alone."""
        self.add(name, code, attack, {MANIFEST_FILE: raw}, verify="manifest", path=MANIFEST_FILE, **options)

    def manifests(self, code: str, cases: Mapping[str, tuple[str, bytes]]) -> None:
        """Manifests that are refused with one code: by their names, the attack and the bytes."""
        for name, (attack, raw) in cases.items():
            self.manifest(name, code, attack, raw)

    def image(self, name: str, code: str | None, attack: str, raw: bytes, **options: Any) -> None:  # noqa: ANN401
        """An image file beside the good release.sigstore.json."""
        files = {"image": raw, MANIFEST_FILE: self.files[MANIFEST_FILE]}
        self.add(name, code, attack, files, **{"verify": "file", "path": "image", **options})

    def trusted(self, name: str, code: str | None, attack: str, raw: bytes, **options: Any) -> None:  # noqa: ANN401
        """A trust file alone."""
        self.add(name, code, attack, {}, verify="trust", path=TRUST, trust=raw, **options)


def write_folder(shop: Workshop, folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a release's files and the SHA256SUMS that go with them."""
    folder.mkdir(parents=True)
    for each, content in files.items():
        (folder / each).write_bytes(content)
    shop.checksums(folder)
