"""What somebody does to a catalogue who may write to its directory, or who serves it, and has none of its keys: by
whole commands, each of which ends with a code and leaves what there was."""

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # public, but it has no __all__

from imagefactory.store.records import release_version
from imagefactory.tools.tuf_repository import TufRepository
from signing.keys import KeyRing, public_pem
from signing.signer import signer_in
from tests.contract.conftest import FirstBuild
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost
from tests.fakes.tuf_site import Site, saying, serving
from tests.unit.tuf_world import MemorySigner, moment

NAME = "fake-debian-12"
On = Callable[[FakeHost], FakeHost]


def ref_of(host: FakeHost) -> str:
    with host.factory() as factory:
        (release,) = factory.records.releases()
    return f"{NAME}@{release_version(release)}"


def files(directory: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(".lock")}


# -- a catalogue that is set back to what it was ----------------------------------------------------------------------


@pytest.fixture
def set_back(built: FakeHost, on: On, shell: Shell) -> FakeHost:
    """A release was revoked, this machine has seen it as a reader, and then somebody restored the directory as it was
    before."""
    on(built)
    catalogue = built.settings.catalogue
    shutil.copytree(catalogue, built.root / "backup")
    assert shell.json("catalogue", "revoke", ref_of(built), "--reason", "leaks a key")[0] == 0
    assert shell.refused("verify", f"catalogue:{catalogue}/{NAME}") == (1, "release-revoked")
    catalogue.rename(built.root / "newest")
    shutil.copytree(built.root / "backup", catalogue)
    return built


def test_nobody_signs_for_what_was_true_once(set_back: FakeHost, shell: Shell) -> None:
    """Else a fresh timestamp would offer again what was revoked."""
    catalogue, ref = set_back.settings.catalogue, ref_of(set_back)
    before = files(catalogue)
    for command in (
        ("catalogue", "refresh"),
        ("publish", ref, "--to", f"catalogue:{catalogue}"),
        ("catalogue", "deprecate", ref, catalogue),
        ("catalogue", "revoke", ref, "--reason", "again", catalogue),
        ("catalogue", "rotate", "freshness"),
        ("catalogue", "rotate", "targets"),
    ):
        assert shell.refused(*command) == (1, "catalogue-rollback"), command
        assert "restore the newest metadata from a mirror" in shell.stderr
    assert files(catalogue) == before
    assert shell.refused("verify", f"catalogue:{catalogue}/{NAME}") == (1, "catalogue-rollback")


def test_the_newest_state_is_put_back(set_back: FakeHost, shell: Shell) -> None:
    catalogue = set_back.settings.catalogue
    shutil.rmtree(catalogue / "metadata")
    shutil.copytree(set_back.root / "newest/metadata", catalogue / "metadata")
    assert shell.json("catalogue", "refresh")[0] == 0
    assert shell.refused("verify", f"catalogue:{catalogue}/{NAME}") == (1, "release-revoked")


def test_where_nobody_has_the_newest_state(set_back: FakeHost, shell: Shell) -> None:
    """The way that is said: with another freshness key readers forget the versions that they saw, too."""
    catalogue, ref = set_back.settings.catalogue, ref_of(set_back)
    shell.json("catalogue", "refresh")
    (known,) = set_back.home.glob("signed/.catalogues/*.versions.json")
    assert f"once {known} is removed" in shell.stderr
    known.unlink()
    assert shell.json("catalogue", "revoke", ref, "--reason", "leaks a key")[0] == 0
    assert shell.json("catalogue", "rotate", "freshness")[0] == 0
    assert shell.refused("verify", f"catalogue:{catalogue}/{NAME}") == (1, "release-revoked")


@pytest.mark.parametrize("left", [["metadata/1.root.json"], ["metadata/1.root.json", "metadata/1.snapshot.json"]])
def test_a_catalogue_that_was_emptied_is_not_begun_with_the_same_root(
    built: FakeHost, on: On, shell: Shell, left: list[str]
) -> None:
    on(built)
    catalogue = built.settings.catalogue
    for path in catalogue.rglob("*"):
        if path.is_file() and str(path.relative_to(catalogue)) not in left:
            path.unlink()
    before = files(catalogue)
    assert shell.refused("catalogue", "init") == (1, "catalogue-rollback")
    assert shell.refused("catalogue", "publish-root", catalogue / "metadata/1.root.json") == (1, "catalogue-rollback")
    assert shell.refused("catalogue", "refresh") == (1, "catalogue-uninitialised")
    assert files(catalogue) == before


@pytest.mark.parametrize("content", ["[]", "{", '{"timestamp": "9"}', '{"timestamp": 9.5}', '{"timestamp": true}'])
def test_what_is_remembered_is_damaged(built: FakeHost, on: On, shell: Shell, content: str) -> None:
    on(built)
    (known,) = built.home.glob("signed/.catalogues/*.versions.json")
    known.write_text(content)
    before = files(built.settings.catalogue)
    assert shell.refused("catalogue", "refresh") == (1, "memory-damaged")
    assert files(built.settings.catalogue) == before


# -- a directory that others may write to -----------------------------------------------------------------------------


def test_a_link_in_the_place_of_a_lock(built: FakeHost, on: On, shell: Shell, tmp_path: Path) -> None:
    """What it leads to is not written to."""
    on(built)
    ref, other, victim = ref_of(built), tmp_path / "other", tmp_path / "victim"
    victim.write_text("precious")
    assert shell.json("catalogue", "init", other)[0] == 0
    (other / "targets").mkdir(exist_ok=True)
    (other / f"targets/.{NAME}.lock").symlink_to(victim)
    assert shell.refused("publish", ref, "--to", f"catalogue:{other}") == (3, "catalogue-unusable")
    (other / "metadata/.lock").unlink()
    (other / "metadata/.lock").symlink_to(victim)
    assert shell.refused("catalogue", "refresh", other) == (3, "catalogue-unusable")
    assert victim.read_text() == "precious"


def test_what_is_published_can_be_served_whatever_our_umask_is(
    built: FakeHost, on: On, shell: Shell, tmp_path: Path
) -> None:
    on(built)
    ref, other, mirror = ref_of(built), tmp_path / "other", tmp_path / "mirror"
    root = built.settings.catalogue / "metadata/1.root.json"
    before = os.umask(0o077)
    try:
        assert shell.json("publish", ref, "--to", f"catalogue:{other}")[0] == 0
        assert shell.json("catalogue", "export", built.settings.catalogue, tmp_path / "bundle", NAME)[0] == 0
        assert shell.json("catalogue", "import", tmp_path / "bundle", mirror, "--root", root)[0] == 0
    finally:
        os.umask(before)
    for catalogue in (other, mirror):
        served = [path for path in catalogue.rglob("*") if not path.name.endswith(".lock")]
        assert {path.stat().st_mode & 0o777 for path in served if path.is_file()} == {0o644}
        folders = [catalogue, *(path for path in served if path.is_dir())]
        assert {path.stat().st_mode & 0o777 for path in folders} == {0o755}


# -- a reader's clock --------------------------------------------------------------------------------------------------


def test_a_clock_that_was_ahead_locks_nobody_out(built: FakeHost, on: On, shell: Shell, tmp_path: Path) -> None:
    """The way that is said leads out."""
    on(built)
    catalogue = built.settings.catalogue
    target, root = f"catalogue:{catalogue}/{NAME}", catalogue / "metadata/1.root.json"
    store = built.settings.known_catalogue(catalogue).store
    assert shell.json("verify", target)[0] == 0
    (store / "last-seen").write_text("2099-12-31T23:59:59Z\n")
    assert shell.refused("verify", target) == (3, "clock-behind")
    assert f"move {store} away and give the catalogue's root.json again" in shell.stderr
    store.rename(tmp_path / "away")
    assert shell.json("verify", target, "--root", root)[0] == 0
    assert shell.json("verify", target)[0] == 0


# -- a mirror that turned against its readers -------------------------------------------------------------------------


@dataclass(frozen=True)
class Mirror:
    """A mirror at `url`, which somebody else controls, and how it was when it was honest."""

    site: Site
    honest: Path
    repository: TufRepository

    @property
    def metadata(self) -> Path:
        return self.site.root / "metadata"

    def restore(self) -> None:
        self.site.instead.clear()
        shutil.rmtree(self.site.root)
        shutil.copytree(self.honest, self.site.root)

    def newest(self, role: str) -> Path:
        return max(self.metadata.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))

    def edit(self, path: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a file without the key that it was signed with."""
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document))


@pytest.fixture
def mirror(first_build: FirstBuild, tmp_path: Path, on: On, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Of a factory's catalogue; whoever comes has the root in a file, and a home of his own."""
    factory = FakeHost(first_build.copy)
    on(factory)
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "reader"))
    monkeypatch.chdir(tmp_path)
    honest, ring = factory.home / "catalogue", KeyRing(factory.home / "keys")
    shutil.copy(honest / "metadata/1.root.json", tmp_path / "root.json")
    shutil.copytree(honest, tmp_path / "mirror")
    signers = [signer_in(ring, "targets"), signer_in(ring, "freshness")]
    root = (tmp_path / "root.json").read_bytes()
    with serving(tmp_path / "mirror") as site:
        yield Mirror(site, honest, TufRepository(site.root, root, signers))


def commands(url: str) -> list[tuple[str, ...]]:
    """Every one that reads a catalogue."""
    return [
        ("verify", f"catalogue:{url}/{NAME}"),
        ("fetch", NAME, "--catalogue", url, "--output", "image"),
        ("boot", f"catalogue:{url}/{NAME}"),
        ("catalogue", "fetch", url),
        ("catalogue", "list", url, NAME),
        ("catalogue", "check", url),
        ("catalogue", "export", url, "bundle.tar", NAME),
    ]


def timestamp(mirror: Mirror) -> Path:
    return mirror.metadata / "timestamp.json"


def strangers_root(mirror: Mirror) -> None:
    """A second root, signed by one stranger under two ids."""
    stranger, document = MemorySigner("root"), json.loads((mirror.metadata / "1.root.json").read_bytes())
    document["signed"]["version"] = 2
    document["signed"]["roles"]["root"] = {"keyids": ["0" * 64, "1" * 64], "threshold": 2}
    key = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": public_pem(stranger.public_key)}}
    document["signed"]["keys"] |= {"0" * 64: key, "1" * 64: {**key}}
    unsigned = Metadata[Root].from_dict(copy.deepcopy(document))
    signature = stranger.sign(unsigned.signed_bytes).hex()
    document["signatures"] = [{"keyid": keyid * 64, "sig": signature} for keyid in "01"]
    (mirror.metadata / "2.root.json").write_text(json.dumps(document))


def doubled(document: dict[str, Any]) -> None:
    """One good signature counts as two, or so."""
    document["signatures"] *= 2


ATTACKS: dict[str, tuple[str, Callable[[Mirror], object]]] = {
    "truncated": ("catalogue-damaged", lambda at: os.truncate(timestamp(at), 200)),
    "empty": ("catalogue-damaged", lambda at: os.truncate(timestamp(at), 0)),
    "HTML": ("catalogue-damaged", lambda at: timestamp(at).write_text("<!doctype html><title>It works!</title>")),
    "nested without end": ("catalogue-damaged", lambda at: timestamp(at).write_text("[" * 16_000)),
    "a version of 4,500 digits": (
        "catalogue-damaged",
        lambda at: timestamp(at).write_text('{"signed":{"version":' + "9" * 4500 + "}}"),
    ),
    "beyond the limit": ("catalogue-endless", lambda at: os.truncate(timestamp(at), 1 << 30)),
    "expired": ("catalogue-frozen", lambda at: at.repository.refresh(moment() - timedelta(days=3))),
    "unsigned": ("catalogue-unsigned", lambda at: at.edit(timestamp(at), lambda each: each["signatures"].clear())),
    "a duplicated signature": ("catalogue-damaged", lambda at: at.edit(timestamp(at), doubled)),
    "a role that is not this one": (
        "catalogue-unsigned",
        lambda at: at.edit(timestamp(at), lambda each: each["signatures"][0].update(keyid="0" * 64)),
    ),
    "another root": ("catalogue-unsigned", strangers_root),
    "a root that is nested": ("catalogue-damaged", lambda at: (at.metadata / "2.root.json").write_text("[" * 500_000)),
    "a list of another state": (
        "catalogue-mixed",
        lambda at: shutil.copy(at.metadata / "1.targets.json", at.newest("targets")),
    ),
    "nothing where something was promised": ("catalogue-unreachable", lambda at: at.newest("snapshot").unlink()),
    "to a file of the reader": (
        "catalogue-unreachable",
        lambda at: at.site.instead.update(
            {"/catalogue/metadata/timestamp.json": saying(302, Location=f"file://{timestamp(at)}")}
        ),
    ),
    "words for a terminal": (
        "catalogue-damaged",
        lambda at: timestamp(at).write_text('{"signed":{"_type":"\\u001b]0;owned\\u0007\\u202e"},"signatures":[]}'),
    ),
}


# What has been verified once is not asked for again.
ONCE = ("a list of another state", "nothing where something was promised")


@pytest.mark.parametrize(
    ("attack", "known"), [*((each, False) for each in ATTACKS), *((each, True) for each in ATTACKS if each not in ONCE)]
)
def test_no_command_believes_a_hostile_mirror(mirror: Mirror, shell: Shell, attack: str, known: bool) -> None:
    code, change = ATTACKS[attack]
    store = Path("reader/trusted")
    if known:
        assert shell.json("catalogue", "fetch", mirror.site.url, "--root", "root.json")[0] == 0
    change(mirror)
    exit_code, root = 4 if code == "catalogue-unreachable" else 1, [] if known else ["--root", "root.json"]
    for command in commands(mirror.site.url)[: 2 if known else None]:
        status, said = shell.json(*command, *root)
        assert (status, said["error"]["code"]) == (exit_code, code), command
        assert not {*shell.stderr} & {"\x1b", "\x07", "\u202e"}
    assert bool([*store.rglob("pinned.root.json")]) is known, "trust begins with what is good"
    assert not [path for path in Path().iterdir() if path.name.startswith((".image", "image", "bundle", ".bundle"))]
    mirror.restore()
    assert shell.json("verify", f"catalogue:{mirror.site.url}/{NAME}", "--root", "root.json")[0] == 0


def test_an_older_state_is_refused_by_every_command(mirror: Mirror, shell: Shell) -> None:
    mirror.repository.refresh(moment())
    assert shell.json("catalogue", "fetch", mirror.site.url, "--root", "root.json")[0] == 0
    mirror.restore()
    for command in commands(mirror.site.url):
        status, said = shell.json(*command)
        assert (status, said["error"]["code"]) == (1, "catalogue-rollback"), command


@pytest.mark.parametrize("name", ["fake-debian-1", "fake-debian-123", "fake-debian", "targets-1"])
def test_a_name_is_not_the_beginning_of_another(mirror: Mirror, shell: Shell, name: str) -> None:
    assert shell.json("catalogue", "fetch", mirror.site.url, "--root", "root.json")[0] == 0
    assert shell.refused("verify", f"catalogue:{mirror.site.url}/{name}") == (1, "release-unknown")
    assert shell.refused("fetch", name, "--catalogue", mirror.site.url) == (1, "release-unknown")


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%2fb", "f\u0430ke", "x\x1b[2J", "targets", "*", "a" * 65, "@"])
def test_names_that_are_none(mirror: Mirror, shell: Shell, name: str) -> None:
    assert shell.json("catalogue", "fetch", mirror.site.url, "--root", "root.json")[0] == 0
    mirror.site.asked.clear()
    for command in (("fetch", name, "--catalogue", mirror.site.url), ("verify", f"catalogue:{mirror.site.url}/{name}")):
        assert shell.refused(*command)[1] in {"release-name-invalid", "release-unknown"}, command
        assert "\x1b" not in shell.stderr
    assert not any(".." in path or "%" in path for path in mirror.site.asked)


# -- disks, and makers who are killed ---------------------------------------------------------------------------------

FULL = """
cp -a "$0" "$0.copy"; mount -t tmpfs -o "size=$1k" none "$0"; cp -a "$0.copy/." "$0"; shift
"$@"; status=$?
cp -a "$0" "$0.after"; exit $status
"""
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def code_of(host: FakeHost, script: str, *arguments: str | Path) -> tuple[int, str]:
    """The exit code and the error of a command in a mount namespace of its own, and on a disk that `script` makes."""
    become = [] if os.geteuid() == 0 else ["sudo", "-n", "-E"]
    command = [*become, "unshare", "--mount", "sh", "-uc", script, *map(str, arguments)]
    done = subprocess.run(command, env=host.environ, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)["error"]["code"]


def imagefactory(*argv: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "tests.fakes.command", *argv, "--json"]


@pytest.mark.parametrize("free", range(3))
def test_a_full_disk_leaves_a_catalogue_as_it_was(built: FakeHost, on: On, shell: Shell, free: int) -> None:
    """With each file that is written there is no room for the next."""
    on(built)
    ref, metadata = ref_of(built), built.settings.catalogue / "metadata"
    pages = sum(-(-path.stat().st_size // 4096) for path in metadata.iterdir()) + free
    revoke = imagefactory("catalogue", "revoke", ref, "--reason", "leaks a key")
    assert code_of(built, FULL, metadata, str(pages * 4), *revoke) == (3, "disk-full")
    shutil.rmtree(metadata)
    metadata.with_name("metadata.after").rename(metadata)
    assert shell.json("verify", f"catalogue:{built.settings.catalogue}/{NAME}")[0] == 0
    assert shell.json("catalogue", "revoke", ref, "--reason", "leaks a key")[0] == 0
    assert shell.refused("verify", f"catalogue:{built.settings.catalogue}/{NAME}") == (1, "release-revoked")


def test_disks_that_cannot_be_written(built: FakeHost, on: On) -> None:
    on(built)
    catalogue, trusted = built.settings.catalogue, built.home / "trusted"
    for where, code, argv in (
        (catalogue, "catalogue-unusable", ["catalogue", "refresh"]),
        (trusted, "trust-store-unusable", ["verify", f"catalogue:{catalogue}/{NAME}"]),
        (trusted, "trust-store-unusable", ["fetch", NAME, "--output", built.root / "image"]),
    ):
        assert code_of(built, READ_ONLY, where, *imagefactory(*argv)) == (3, code), argv
    assert not (built.root / "image").exists()


def test_makers_who_are_killed(built: FakeHost, on: On, shell: Shell) -> None:
    """Readers see the state before or the one after, and never go back."""
    on(built)
    catalogue, ref = built.settings.catalogue, ref_of(built)
    target = f"catalogue:{catalogue}/{NAME}"
    for number, moment_of_death in enumerate((0.4, 0.7, 1.0, 1.3, 1.6, 2.0)):
        verb = "deprecate" if number % 2 == 0 else "reinstate"
        makers = [built.start("catalogue", verb, ref), built.start("catalogue", "refresh")]
        time.sleep(moment_of_death)
        makers[number % 2].kill()
        for each in makers:
            each.communicate(timeout=120)
        assert shell.json("verify", target)[0] == 0


def test_makers_at_once(built: FakeHost, on: On, shell: Shell, tmp_path: Path) -> None:
    """One of them publishes it; the others find it published, or say who is at it, and spoil nothing of his."""
    on(built)
    ref, other = ref_of(built), tmp_path / "other"
    makers = [built.start("publish", ref, "--to", f"catalogue:{other}", "--json") for _ in range(3)]
    said = [each.communicate(timeout=120)[0] for each in makers]
    codes = [json.loads(text).get("error", {}).get("code") for text in said]
    assert None in codes
    assert {*codes} <= {None, "busy"}
    assert shell.json("catalogue", "check", other, "--deep")[1]["releases"] == 1
