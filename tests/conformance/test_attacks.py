"""Every attack of the corpus is refused with its own code, and every good case is accepted.

The cases are data: `tests/conformance/attacks/corpus.py` says what a case is, `make attacks` makes them anew.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import FactoryError
from imagefactory.model.evidence import Evidence
from imagefactory.steps.convert import Converted
from imagefactory.steps.verify import Expectation
from imagefactory.tools.inspect import opened
from signing import errors
from signing.digest import hash_stream, open_regular, read_document
from signing.errors import SigningError
from signing.fields import parse_time
from signing.manifest import MANIFEST_FILE
from signing.manifest import Version as SignedVersion
from signing.trust import load_trust
from signing.verify import VerifiedManifest, verify_file, verify_folder, verify_manifest
from tests.conformance.attacks.make import CASES, make
from tests.contract.test_signer import SBOM, Desk, make_sbom
from tests.fakes.boots import facts
from tests.fakes.host import make_keys

NAMES = sorted(each.name for each in CASES.iterdir() if each.is_dir())
Case = dict[str, Any]


# -- what a repository cannot hold -------------------------------------------------------------------------------------


def bind_socket(path: Path) -> None:
    there = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(there)


def overwrite(path: Path, content: str) -> None:
    with path.open("r+b") as stream:
        stream.write(content.encode())


def append(path: Path, count: int) -> None:
    with path.open("ab") as stream:
        stream.write(b" " * count)


def change_mtime(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


ACTIONS: dict[str, Callable[[Path, Path, Case], object]] = {
    "symlink": lambda _, path, step: path.symlink_to(step["to"]),
    "hardlink": lambda case, path, step: path.hardlink_to(case / step["to"]),
    "pipe": lambda _, path, __: os.mkfifo(path),
    "socket": lambda _, path, __: bind_socket(path),
    "directory": lambda _, path, __: path.mkdir(),
    "remove": lambda _, path, __: path.unlink(),
    "move": lambda case, path, step: path.rename(case / step["to"]),
    "write": lambda _, path, step: path.write_text(step["text"]),
    "overwrite": lambda _, path, step: overwrite(path, step["text"]),
    "append": lambda _, path, step: append(path, step["count"]),
    "extend": lambda _, path, step: os.truncate(path, step["size"]),
    "touch": lambda _, path, __: change_mtime(path),
}


def done(case: Path, steps: Sequence[Case]) -> None:
    for step in steps:
        ACTIONS[step["do"]](case, case / step["path"], step)


# -- how a case is verified --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A copy of a case, what is `said` in its case.json, and the keys of a signer who is lied to."""

    case: Path
    said: Case
    keys: Path
    during: list[Sequence[Case]]

    @property
    def path(self) -> Path:
        return self.case / str(self.said["path"])

    @property
    def expectation(self) -> Expectation:
        return Expectation(load_trust(self.case / self.said["trust"]), parse_time(self.said["now"]), self.said["name"])

    @property
    def oldest(self) -> SignedVersion | None:
        return SignedVersion.parse(self.said["min_version"]) if self.said["min_version"] else None

    def on_bytes(self, _: int) -> None:
        if self.during:
            done(self.case, self.during.pop())

    def manifest(self, path: Path) -> VerifiedManifest:
        pinned = self.expectation
        raw = read_document(path)
        return verify_manifest(raw, pinned.keys, now=pinned.now, name=pinned.name, min_version=self.oldest)


def by_manifest(trial: Trial) -> None:
    trial.manifest(trial.path)


def by_file(trial: Trial) -> None:
    manifest = trial.manifest(trial.case / MANIFEST_FILE)
    fd = open_regular(trial.path)
    try:
        verify_file(fd, manifest, on_bytes=trial.on_bytes)
    finally:
        os.close(fd)


def by_folder(trial: Trial) -> None:
    pinned = trial.expectation
    verify_folder(
        trial.path, pinned.keys, now=pinned.now, name=pinned.name, min_version=trial.oldest, on_bytes=trial.on_bytes
    )


def by_trust(trial: Trial) -> None:
    load_trust(trial.path)


def by_signer(trial: Trial) -> None:
    """The signer is asked to sign the images, with provenance and evidence about them, all in order."""
    work = trial.case / "desk"
    work.mkdir()
    (work / SBOM).write_bytes(make_sbom())
    images: dict[str, Converted] = {}
    for path in sorted(trial.path.iterdir()):
        with opened(path) as descriptor:
            images[path.suffix[1:]] = Converted(path, path.suffix[1:], path.stat().st_size, hash_stream(descriptor))
    first, *others = (f"sha256:{image.digests.sha256}" for image in images.values())
    evidence = (
        Evidence("boot", first, "pass", facts(["uefi"], 512)),
        *(Evidence("same-disk", other, "pass", {"booted": first}) for other in others),
    )
    desk = Desk(trial.keys, work, images, work / SBOM, evidence)
    desk.sign(desk.order(desk.attest()))


WAYS: dict[str, Callable[[Trial], None]] = {
    "manifest": by_manifest,
    "file": by_file,
    "folder": by_folder,
    "trust": by_trust,
    "sign": by_signer,
}


def judged(case: Path, keys: Path) -> str | None:
    """The code of the error with which a case is refused; None for a case that is accepted.

    Whatever is no error of ours is not caught.
    """
    said: Case = json.loads((case / "case.json").read_text())
    done(case, said["before"])
    trial = Trial(case, said, keys, [said["during"]] if said["during"] else [])
    try:
        WAYS[said["verify"]](trial)
    except (SigningError, FactoryError) as refused:
        return str(refused.code)
    assert not trial.during, "what was to happen during verification did not"
    return None


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys") / "home")


def copied(name: str, root: Path, target: Path) -> Path:
    """A copy of one case, with the trust file beside it that it may name."""
    shutil.copytree(root / name, target / name)
    shutil.copy(root / "trust.json", target / "trust.json")
    return target / name


def expected(name: str) -> str | None:
    _, failed, code = name.partition("_fail_")
    assert failed or name.endswith("_pass")
    return code or None


@pytest.mark.parametrize("name", NAMES)
def test_case(tmp_path: Path, keys: Path, name: str) -> None:
    case = copied(name, CASES, tmp_path)
    assert json.loads((case / "case.json").read_text())["code"] == expected(name)
    assert judged(case, keys) == expected(name)


# -- the corpus itself -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "cases"
    make(root)
    return root


def test_the_script_makes_these_cases(fresh: Path, tmp_path: Path, keys: Path) -> None:
    """With other keys, and with the same verdicts: nothing here depends on a lucky byte."""
    assert sorted(each.name for each in fresh.iterdir() if each.is_dir()) == NAMES
    found = {name: judged(copied(name, fresh, tmp_path), keys) for name in NAMES}
    assert {name: code for name, code in found.items() if code != expected(name)} == {}


def files() -> Iterator[Path]:
    return (each for each in CASES.rglob("*") if each.is_file())


def test_size_and_secrets() -> None:
    assert sum(each.stat().st_size for each in files()) < 2_500_000
    assert not [each for each in files() if b"PRIVATE" in each.read_bytes()]


def test_each_attack_says_why_it_matters() -> None:
    for name in NAMES:
        said = json.loads((CASES / name / "case.json").read_text())
        assert len(said["attack"]) > 10
        assert said["attack"].endswith(".")


# What the signing room refuses before anything is signed or verified: other tests bring these about.
NOT_VERIFICATION = {
    *("keys-exist", "keys-missing", "key-permissions", "key-damaged", "key-purpose", "signer-unknown", "unwritable"),
    *("passphrase-missing", "passphrase-wrong", "token-failed"),
    "no-trust-root",  # nothing is verified without
}


def test_each_code_of_verification_has_its_attack() -> None:
    """A rule without an attack is a rule that nobody has seen refuse anything."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SigningError)]
    codes = {each.code for each in kinds if not each.__subclasses__()}
    assert codes >= NOT_VERIFICATION
    assert codes - NOT_VERIFICATION - {expected(name) for name in NAMES} == set()
