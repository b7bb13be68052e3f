"""Images of containers, made and run by buildah as root: no daemon, no registry, nothing outside of a directory."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.debian import QUIET, installed
from tests.servers.errors import ServerError

# docker-compose needs no engine to check a composition; systemd brings what checks units.
PACKAGES = ("buildah", "docker-compose", "systemd")
SOURCES = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
TIMEOUT = 900.0  # seconds of any program: 60 on a quiet machine
TAIL = 3000  # characters of what one said that failed


@dataclass(frozen=True)
class Images:
    """Images and containers whose files are all in `directory`."""

    directory: Path

    def base(self, name: str) -> None:
        """An image of a Debian 12 with little in it, from the mirror of this host. Raises ServerError."""
        sources = next((str(path) for path in SOURCES if path.exists()), "")
        archive = self.directory / "base.tar"
        options = ["--quiet", "--variant=minbase", "--include=ca-certificates", "--dpkgopt=force-unsafe-io"]
        self._run(["mmdebstrap", *options, "bookworm", str(archive), *filter(None, [sources])])
        container = self._buildah("from", "scratch").strip()
        self._buildah("add", "--quiet", container, str(archive), "/")
        self._buildah("commit", "--quiet", "--rm", container, name)
        archive.unlink()

    def build(self, source: Path, target: str, base: str, name: str) -> None:
        """An image from the Dockerfile in `source`; pip has the mirror of this host. Raises ServerError."""
        configuration, places = pip_configuration()
        secret = self.directory / "pip.conf"
        secret.touch(0o600)
        secret.write_text(configuration)
        shared = [f"--volume={place}:{place}:ro" for place in (*places, BUNDLE) if place.exists()]
        options = [f"--build-arg=BASE={base}", f"--secret=id=pip,src={secret}", f"--target={target}", f"--tag={name}"]
        self._buildah("bud", "--quiet", "--pull-never", "--layers=false", *shared, *options, str(source))

    def run(self, image: str, argv: Sequence[str], *options: str) -> str:
        """What a program says in a new container. Raises ServerError when it fails."""
        container = self._buildah("from", "--pull-never", image).strip()
        try:
            return self._buildah("run", *options, container, "--", *argv)
        finally:
            self._buildah("rm", container)

    def described(self, image: str) -> str:
        """All that an image says of itself, its history too."""
        return self._buildah("inspect", "--type=image", image)

    def close(self) -> None:
        """Remove what only buildah can."""
        self._buildah("rm", "--all")
        self._buildah("rmi", "--all", "--force")

    def _buildah(self, *argv: str) -> str:
        storage = ["--root", str(self.directory / "storage"), "--runroot", str(self.directory / "run")]
        return self._run(["buildah", *storage, *argv])

    def _run(self, argv: Sequence[str]) -> str:
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        scratch = {"TMPDIR": str(self.directory), "HOME": str(self.directory), "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            argv,
            env={**QUIET, **proxies, **scratch},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise ServerError(f"{argv[0]} failed with status {done.returncode}.\n{done.stderr[-TAIL:]}")
        return done.stdout


def images(directory: Path) -> Images:
    """Nothing is in it yet. Raises ServerError."""
    missing = [package for package in PACKAGES if not installed(package)]
    if missing or os.getuid() != 0:
        raise ServerError(f"root, and {', '.join(PACKAGES)}: python -m tests.servers prepare")
    return Images(Path(tempfile.mkdtemp(prefix="images-", dir=directory)))


def pip_configuration() -> tuple[str, list[Path]]:
    """What pip is told on this host, as a file of its own, and the directories that it names."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        found[key.rpartition(".")[2]] = value.strip("'").replace("\\n", " ")
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in found.items()), _places(found)


def _places(found: Mapping[str, str]) -> list[Path]:
    """What has to be seen for these values: directories with packages, and all that lies beside a list of packages."""
    words = [word for value in found.values() for word in value.split()]
    lists = [Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")]
    return sorted({*lists, *(Path(word) for word in words if word.startswith("/") and Path(word).is_dir())})
