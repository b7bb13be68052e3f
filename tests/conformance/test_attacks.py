"""Every attack of the corpus is refused with its own code, and every good case is accepted.

The cases are data: `tests/conformance/attacks/corpus.py` says what a case is, `make attacks` makes them anew.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import FactoryError
from imagefactory.steps.verify import Expectation, verify
from signing import errors
from signing.digest import open_regular, read_document
from signing.errors import SigningError
from signing.fields import parse_time
from signing.manifest import MANIFEST_FILE, Version
from signing.trust import load_trust
from signing.verify import verify_file, verify_folder, verify_manifest
from tests.conformance.attacks.make import CASES, make

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


def judged(case: Path) -> str | None:
    """The code of the error with which a case is refused; None for a case that is accepted.

    Whatever is no error of ours is not caught.
    """
    said: Case = json.loads((case / "case.json").read_text())
    done(case, said["before"])
    waiting = [said["during"]]

    def on_bytes(_: int) -> None:
        if waiting:
            done(case, waiting.pop())

    try:
        ways[said["verify"]](case, said, on_bytes)
    except (SigningError, FactoryError) as refused:
        return str(refused.code)
    assert not waiting or not said["during"], "what was to happen during verification did not"
    return None


def expectation(case: Path, said: Case) -> Expectation:
    return Expectation(load_trust(case / said["trust"]), parse_time(said["now"]), said["name"])


def manifest_way(case: Path, said: Case, _: Callable[[int], None]) -> None:
    pinned = expectation(case, said)
    oldest = said["min_version"] and Version.parse(said["min_version"])
    raw = read_document(case / said["path"])
    verify_manifest(raw, pinned.trust, now=pinned.now, name=pinned.name, min_version=oldest)


def file_way(case: Path, said: Case, on_bytes: Callable[[int], None]) -> None:
    pinned = expectation(case, said)
    manifest = verify_manifest(read_document(case / MANIFEST_FILE), pinned.trust, now=pinned.now, name=pinned.name)
    fd = open_regular(case / said["path"])
    try:
        verify_file(fd, manifest, on_bytes=on_bytes)
    finally:
        os.close(fd)


def folder_way(case: Path, said: Case, on_bytes: Callable[[int], None]) -> None:
    pinned = expectation(case, said)
    oldest = said["min_version"] and Version.parse(said["min_version"])
    verify_folder(
        case / said["path"], pinned.trust, now=pinned.now, name=pinned.name, min_version=oldest, on_bytes=on_bytes
    )


def catalogue_way(case: Path, said: Case, on_bytes: Callable[[int], None]) -> None:
    verify(f"catalogue:{case}/{said['path']}", expectation(case, said), on_bytes=on_bytes)


def trust_way(case: Path, said: Case, _: Callable[[int], None]) -> None:
    load_trust(case / said["path"])


ways: dict[str, Callable[[Path, Case, Callable[[int], None]], None]] = {
    "manifest": manifest_way,
    "file": file_way,
    "folder": folder_way,
    "catalogue": catalogue_way,
    "trust": trust_way,
}


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
def test_case(tmp_path: Path, name: str) -> None:
    case = copied(name, CASES, tmp_path)
    assert json.loads((case / "case.json").read_text())["code"] == expected(name)
    assert judged(case) == expected(name)


# -- the corpus itself -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "cases"
    make(root)
    return root


def test_the_script_makes_these_cases(fresh: Path, tmp_path: Path) -> None:
    """With other keys, and with the same verdicts: nothing here depends on a lucky byte."""
    assert sorted(each.name for each in fresh.iterdir() if each.is_dir()) == NAMES
    wrong = {
        name: found for name in NAMES if (found := judged(copied(name, fresh, tmp_path / "work"))) != expected(name)
    }
    assert wrong == {}


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
    *("audit-damaged", "audit-cut"),
    *("policy-missing", "policy-invalid", "name-not-approved", "builder-not-approved", "recipe-not-approved"),
    *("element-not-approved", "version-used"),
    "no-trust-root",  # nothing is verified without
}


def test_each_code_of_verification_has_its_attack() -> None:
    """A rule without an attack is a rule that nobody has seen refuse anything."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SigningError)]
    codes = {each.code for each in kinds if not each.__subclasses__()}
    assert codes >= NOT_VERIFICATION
    assert codes - NOT_VERIFICATION - {expected(name) for name in NAMES} == set()
