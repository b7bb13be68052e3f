"""A host whose slow programs are fakes: whole builds in seconds, every other part of them real.

Real: the factory, its records and locks, the builder in its namespaces, sfdisk, mtools, mke2fs, qemu-img, the signer,
the catalogue, verification. Fake: apt, diskimage-builder, the virtual machine.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.ceremony import draft_first, sign_draft
from imagefactory.factory.keys import Custody, init_keys, init_root
from imagefactory.factory.loop import Factory
from imagefactory.factory.run import Outcome
from imagefactory.model.policy import EVERY_NAME, Approval, Policy
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.progress import Event
from imagefactory.settings import Settings, read_settings
from imagefactory.tools.recipe_file import load_recipe
from imagefactory.wiring import factory
from signing.keys import KeyRing
from signing.signer import signer_in
from tests.fakes.boots import boot_test

BIN = Path(__file__).parent / "bin"
# These stop at points of our choice and then do their real work.
WRAPPED = ("mke2fs", "qemu-img", "sfdisk")
FAKES = ("apt-cache", "apt-get", "disk-image-create", "qemu-system-x86_64")

RECIPE = """\
name: fake-debian-12
os: {distro: debian, version: "12"}
elements: [plain]
packages: [openssl]
disk: {size: 512 MiB, firmware: [uefi]}
formats: {qcow2: {}}
"""


@dataclass(frozen=True)
class FakeHost:
    """One host below `root`: programs, their control files, a recipe, a factory's home."""

    root: Path
    events: list[Event] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def recipe_file(self) -> Path:
        return self.root / "recipe" / "fake.yaml"

    @property
    def passphrase_file(self) -> Path:
        """Of keys that are not for development; they alone have one."""
        return self.root / "passphrase"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a command line on this host."""
        return {
            "HOME": str(self.root),
            "IMAGEFACTORY_HOME": str(self.home),
            "IMAGEFACTORY_PATH": str(self.root / "bin"),
            "PATH": os.environ["PATH"],
            "FAKE_CONTROL": str(self.control),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "NO_COLOR": "1",
            **({"IMAGEFACTORY_PASSPHRASE_FILE": str(self.passphrase_file)} if self.passphrase_file.exists() else {}),
        }

    @property
    def settings(self) -> Settings:
        return read_settings(self.environ)

    # -- making it -----------------------------------------------------------------------------------------------------

    @classmethod
    def make(cls, root: Path, keys: Path) -> "FakeHost":
        """A host with keys (a home of which is `keys`) and a recipe, on which nothing was built yet."""
        host = cls(root)
        for directory in ("bin", "control", "recipe/elements/plain", "home"):
            (root / directory).mkdir(parents=True)
        for name in FAKES:
            (root / "bin" / name).symlink_to(BIN / name)
        for name in WRAPPED:
            (root / "bin" / name).symlink_to(BIN / "wrapper")
        shutil.copytree(keys, host.home, dirs_exist_ok=True)
        host.home.chmod(0o700)
        host.offer({"openssl": "3.0.17-1", "bash": "5.2.15-2"}, in_release="first")
        host.say("salt", "")
        host.recipe_file.write_text(RECIPE)
        (host.recipe_file.parent / "elements/plain/element-provides").write_text("operating-system\n")
        return host

    def say(self, name: str, text: str = "") -> None:
        """Write a control file."""
        (self.control / name).write_text(text)

    def unsay(self, name: str) -> None:
        (self.control / name).unlink()

    def offer(self, packages: Mapping[str, str], *, in_release: str) -> None:
        """What the mirror offers: the version of each package."""
        self.say("candidates", "".join(f"{name} {version}\n" for name, version in packages.items()))
        self.say("in-release", in_release)

    # -- using it ------------------------------------------------------------------------------------------------------

    def load(self) -> LoadedRecipe:
        return load_recipe(self.recipe_file)

    @contextmanager
    def factory(self) -> Iterator[Factory]:
        """The factory of this host, in this process. Its events go to `events`."""
        with factory(self.settings, self.events.append, boot_test) as made:
            yield made

    def build(self, *, fresh: bool = False, publish: bool = True) -> Outcome:
        """Build the recipe; `events` has what this build told."""
        self.events.clear()
        with self.factory() as made:
            return made.build(self.load(), fresh=fresh, publish=publish)

    def start(self, *argv: str) -> "subprocess.Popen[bytes]":
        """A command line of this host, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.command", *argv],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def begin_catalogue(settings: Settings, stick: Path, passphrase: bytes) -> None:
    """A ceremony for the built-in catalogue, with one root key, which is made in the new directory `stick`."""
    now = datetime.now(UTC)
    init_root(stick, Custody(passphrase), now=now)
    signer = signer_in(KeyRing(stick, lambda: passphrase), "root")
    draft = draft_first(KeyRing(settings.keys), [signer.public_key], None, now)
    root = sign_draft(draft, signer, None)
    Catalogues(settings, settings.home / "trust.json").publish_root(settings.catalogue, root)


def folders(catalogue: Path, name: str = "*") -> list[Path]:
    """The folders of releases in a catalogue, as anybody sees them."""
    found = catalogue.glob(f"targets/{name}/*")
    return sorted(path for path in found if path.is_dir() and not path.name.startswith("."))


def make_keys(root: Path, custody: Custody = Custody()) -> Path:  # noqa: B008 - frozen
    """Development keys, a trust file and a policy that approves what they build, below the new directory `root`."""
    now = datetime.now(UTC)
    ring = init_keys(root / "keys", root / "trust.json", custody, development=True, now=now)
    anything = Approval(frozenset({ring.keyid("provenance")}), None, None, frozenset({"boot"}))
    (root / "policy.json").write_bytes(Policy(True, {EVERY_NAME: anything}).encode())
    return root
