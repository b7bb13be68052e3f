"""File names that mean another file."""

from functools import partial
from pathlib import Path

from signing.checksums import CHECKSUMS_FILE, SIGNATURE_FILE
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE
from signing.signer import CHECKSUMS_PREFIX
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.spoil import QCOW2, RAW, put
from tests.unit.signing.builders import SBOM_FILE, changed, sha256


def names(c: Corpus) -> None:
    """File names that mean another file."""
    shop, statement = c.shop, c.shop.statement()
    evil = {
        "parent": "../../etc/passwd",
        "absolute": "/etc/passwd",
        "dot-dot": "..",
        "nul": f"{RAW}\0",
        "newline": f"{RAW}\n",
        "backslash": f"..\\{RAW}",
        "look-alike": RAW.replace("a", "\u0430"),
        "bidi": f"\u202e{RAW}",
        "hidden": f".{RAW}",
        "option": f"-{RAW}",
        "long": "x" * 256,
        "empty": "",
    }
    for name, file in evil.items():
        files = {**statement["predicate"]["files"], file: "ab" * 32}
        raw = shop.seal(changed(statement, ("predicate", "files"), files))
        c.manifest(
            f"name-{name}", "manifest-invalid", f"Truly signed, and one of its files is called {file[:40]!r}.", raw
        )
    for name in (CHECKSUMS_FILE, SIGNATURE_FILE, MANIFEST_FILE, RAW):
        files = {**statement["predicate"]["files"], name: "ab" * 32}
        raw = shop.seal(changed(statement, ("predicate", "files"), files))
        c.manifest(
            f"name-reserved-{name.lower()}",
            "manifest-invalid",
            f"Truly signed, and {name} is one of its other files.",
            raw,
        )
    for name, file in {"parent": "../image.raw", "other-format": QCOW2, "upper-case": RAW.upper()}.items():
        raw = shop.seal(changed(statement, ("predicate", "formats", "raw", "file"), file))
        c.manifest(
            f"name-of-a-format-{name}", "manifest-invalid", f"Truly signed, and its raw image is called {file!r}.", raw
        )
    for name, slug in {
        "upper-case": "Debian-12",
        "look-alike": "debi\u0430n-12",
        "slash": "a/b",
        "newline": "debian-12\n",
        "long": "x" * 64,
    }.items():
        raw = shop.seal(changed(statement, ("predicate", "name"), slug))
        c.manifest(
            f"name-of-a-release-{name}",
            "manifest-invalid",
            f"Truly signed as a release of {slug[:20]!r}.",
            raw,
            expected=None,
        )
    sums_names(c)


def removed(folder: Path, name: str) -> None:
    (folder / name).unlink()


def sums_names(c: Corpus) -> None:
    good_sums = "".join(f"{sha256(raw)}  {name}\n" for name, raw in sorted(c.files.items()))
    line = f"{'ab' * 32}  "
    for name, text in {
        "parent": f"{line}../../etc/passwd\n{good_sums}",
        "absolute": f"{line}/etc/passwd\n{good_sums}",
        "twice": good_sums + good_sums,
        "unsorted": "".join(reversed(good_sums.splitlines(keepends=True))),
        "windows": good_sums.replace("\n", "\r\n"),
        "binary-mark": good_sums.replace("  ", " *"),
        "escaped": f"\\{line}a\\nb\n{good_sums}",
        "upper-case": good_sums.upper(),
        "comment": good_sums + "# nothing\n",
        "open-end": good_sums[:-1],
        "empty": "",
        "md5": "".join(f"{'ab' * 16}  {name}\n" for name in sorted(c.files)),
    }.items():
        raw = CHECKSUMS_PREFIX + text.encode()
        c.folder(
            f"sums-{name}",
            "checksums-invalid",
            f"Truly signed SHA256SUMS that sha256sum and we could read in two ways: {name}.",
            partial(c.shop.checksums, raw=raw),
        )
    c.folder(
        "sums-no-first-line",
        "checksums-invalid",
        "Truly signed without its first line, which keeps it apart from other documents.",
        lambda f: c.shop.checksums(f, raw=good_sums.encode()),
    )
    for name, file in {"extra": "x", "hidden": ".x", "case": MANIFEST_FILE.title(), "backup": f"{RAW}~"}.items():
        c.folder(
            f"folder-{name}-file",
            "folder-mismatch",
            f"A file {file!r} lies in the folder, unsigned.",
            partial(put, name=file, content=b"x"),
        )
    c.folder(
        "folder-extra-file-signed",
        "folder-mismatch",
        "A file more, and SHA256SUMS names it: the manifest does not.",
        lambda f: (f / "x").write_bytes(b"x"),
        signed_again=True,
    )
    for name in (MANIFEST_FILE, PROVENANCE_FILE, CHECKSUMS_FILE, SIGNATURE_FILE, RAW, SBOM_FILE):
        c.folder(
            f"folder-without-{name.lower()}",
            "folder-mismatch",
            f"{name} is taken away.",
            partial(removed, name=name),
        )
    look_alike = ({"do": "write", "path": f"release/{RAW.replace('a', chr(0x430))}", "text": "x"},)
    c.folder(
        "folder-look-alike",
        "folder-mismatch",
        "Beside the raw image lies one whose name looks the same.",
        before=look_alike,
    )
    not_text = ({"do": "write", "path": "release/\udcff\udcfe", "text": "x"},)
    c.folder("folder-name-not-text", "folder-mismatch", "A file whose name is no UTF-8.", before=not_text)
    terminal = ({"do": "write", "path": "release/\x1b[2J\n", "text": "x"},)
    c.folder("folder-name-for-terminals", "folder-mismatch", "A file whose name clears a terminal.", before=terminal)
