"""apt, asked about packages. It never installs anything here: it keeps lists of its own under a directory of ours, and
does the fetching, the signature checks and the version comparison that nobody should write again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

from imagefactory.errors import MirrorUnreachable, NoMirror, PackageMissing, ProgramFailed
from imagefactory.model.packages import Change, Package, Source
from imagefactory.tools.process import run

UPDATE_TIMEOUT = 300.0
QUERY_TIMEOUT = 60.0
DOWNLOAD_TIMEOUT = 900.0
MAX_DOWNLOAD = 512 << 20  # bytes of all archives that one call fetches

# APT::Sandbox::User: whoever calls fetches, into directories of his own. By this name apt changes nobody.
SANDBOX_USER = "root"
ARCHIVE_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TARGET_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
# What is configured, whether or not it was ever fetched; without the host's lists apt answers at once.
_CONFIGURED_ONLY = ["--no-release-info", "-o", "Dir::State::lists=/dev/null", "-o", "Dir::State::status=/dev/null"]
# Any failure is an error, and the cache of all packages is not made before somebody asks for it.
_UPDATE = ["-o", "APT::Update::Error-Mode=any", "-o", "pkgCacheFile::Generate=false"]
_SCHEME = re.compile(r"^[a-z0-9+]+:/*")
_DEBIAN_URI = re.compile(r"/debian(-security)?/?$")
_UPGRADE = re.compile(r"^Inst (?P<name>\S+)(?: \[(?P<old>[^\]]+)\])? \((?P<new>\S+) ")
# 'URI' pool_1%3a2.0-1_amd64.deb 1234 SHA256:...
_ARCHIVE = re.compile(
    r"'[^']+' (?P<file>(?P<name>[a-z0-9][a-z0-9+.-]*)_(?P<version>[\w.+~%-]+)_(?P<arch>[a-z0-9-]+)\.deb) "
    r"(?P<size>\d{1,15}) SHA256:(?P<sha256>[0-9a-f]{64})",
    re.ASCII,
)


@dataclass(frozen=True)
class Archive:
    """The archive of a package that a source offers: its file name, its size in bytes, its SHA-256 in hex."""

    package: Package
    file: str
    size: int
    sha256: str


def host_sources(codename: str, environment: Mapping[str, str]) -> tuple[Source, ...]:
    """The Debian archives that this host's own apt uses, for the release `codename`.

    apt itself reads its configuration, one-line and deb822. Only component main of the archives whose suites are a
    Debian release, its updates and its security updates are taken, and only what Debian's own keys signed is believed;
    a host on another Debian release lends its mirrors. Raises NoMirror.
    """
    listed = run(
        ["apt-get", "indextargets", *_CONFIGURED_ONLY, "--format", _TARGET_FORMAT, "Created-By: Packages"],
        env=environment,
        timeout=QUERY_TIMEOUT,
    )
    found: dict[str, Source] = {}
    for line in listed.stdout.decode(errors="replace").splitlines():
        uri, suite, component = [*line.split("|"), "", ""][:3]
        if component != "main" or not _DEBIAN_URI.search(uri):
            continue
        pocket = suite.partition("-")[2]
        if pocket in {"", "updates", "security"}:
            wanted = f"{codename}-{pocket}" if pocket else codename
            found.setdefault(wanted, Source(uri.rstrip("/"), wanted, ("main",), ARCHIVE_KEYRING))
    if codename not in found:
        raise NoMirror(f"this host's apt sources name no Debian mirror for {codename}")
    return tuple(found[suite] for suite in sorted(found))


def through(proxy: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the recipe's proxy, which comes before the caller's."""
    return {**environment, **(dict.fromkeys(("http_proxy", "https_proxy"), proxy) if proxy else {})}


@dataclass(frozen=True)
class Index:
    """Package lists of some sources, kept under `directory` (disposable)."""

    directory: Path
    sources: tuple[Source, ...]
    environment: Mapping[str, str] = field(repr=False)

    def refresh(self) -> str:
        """Fetch and check the lists; return the digest of all InRelease and Release files (equal: nothing changed).

        Raises MirrorUnreachable, also for a signature that does not verify.
        """
        lists = self.directory / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        (self.directory / "sources.list").write_text("".join(source.apt_line() + "\n" for source in self.sources))
        (self.directory / "empty-status").touch()
        try:
            run(
                ["apt-get", *self._options(), *_UPDATE, "update"],
                env=self.environment,
                timeout=UPDATE_TIMEOUT,
            )
        except ProgramFailed as error:
            raise MirrorUnreachable("the package lists could not be fetched", lines=error.lines) from error
        releases = self._releases()
        # apt names the files by address and suite, without the scheme.
        wanted = {(_SCHEME.sub("", source.uri).rstrip("/"), source.suite) for source in self.sources}
        missing = len(wanted) - len({release.name.rpartition("_")[0] for release in releases})
        if missing > 0:
            where = ", ".join(sorted({f"{source.uri} {source.suite}" for source in self.sources}))
            raise MirrorUnreachable(f"{missing} of these gave neither InRelease nor Release: {where}")
        return _digest(releases)

    def have(self, wanted: str) -> None:
        """Fetch the lists unless they have the digest `wanted`: on another host somebody else has asked the mirrors,
        which may have newer ones by now. Raises MirrorUnreachable."""
        if _digest(self._releases()) != wanted:
            self.refresh()

    def _releases(self) -> list[Path]:
        lists = self.directory / "lists"
        return sorted((*lists.glob("*_InRelease"), *lists.glob("*_Release")))

    def require(self, packages: Sequence[str]) -> None:
        """Raises PackageMissing, naming all of `packages` that no source offers."""
        if not packages:
            return
        shown = run(
            ["apt-cache", *self._options(), "policy", *packages], env=self.environment, timeout=QUERY_TIMEOUT
        ).stdout.decode(errors="replace")
        offered = {
            block.partition(":\n")[0] for block in re.split(r"\n(?=\S)", shown) if "Candidate: (none)" not in block
        }
        missing = [name for name in packages if name not in offered]
        if missing:
            where = ", ".join(sorted({f"{source.uri} {source.suite}" for source in self.sources}))
            raise PackageMissing(f"no source offers {', '.join(missing)} (looked in {where})")

    def changes(self, status: Path) -> tuple[Change, ...]:
        """What a full upgrade would do to a system whose dpkg status file is `status`: nothing means up to date."""
        simulated = run(
            ["apt-get", *self._options(status), "--simulate", "--no-install-recommends", "dist-upgrade"],
            env=self.environment,
            timeout=QUERY_TIMEOUT,
        ).stdout.decode(errors="replace")
        matches = filter(None, map(_UPGRADE.match, simulated.splitlines()))
        return tuple(Change(match["name"], match["old"], match["new"]) for match in matches)

    def archives(
        self, packages: Sequence[str], status: Path | None = None, *, again: bool = False
    ) -> tuple[Archive, ...]:
        """The archives of `packages`; with the dpkg status file of a system, those that it lacks for them to be
        installed there, without what they only recommend; `again`: also those of packages that it has, in the newest
        version that is offered. In apt's order. Raises PackageMissing."""
        verb = ["download"] if status is None else ["install", "--no-install-recommends"]
        verb += ["--reinstall"] if again else []
        fixed = ["-qq", "--print-uris", "-o", "Acquire::ForceHash=SHA256"]
        try:
            listed = run(
                ["apt-get", *self._options(status), *fixed, *verb, *packages],
                env=self.environment,
                timeout=QUERY_TIMEOUT,
            )
        except ProgramFailed as error:
            raise PackageMissing(f"no source offers all of {', '.join(packages)}", lines=error.lines) from error
        return tuple(map(_archive, listed.stdout.decode(errors="replace").splitlines()))

    def download(self, archives: Sequence[Archive], directory: Path) -> None:
        """Fetch archives into a directory; apt checks their digests. Raises MirrorUnreachable."""
        if sum(each.size for each in archives) > MAX_DOWNLOAD:
            raise MirrorUnreachable(f"{len(archives)} packages have more than {MAX_DOWNLOAD} bytes")
        wanted = [f"{each.package.name}:{each.package.architecture}={each.package.version}" for each in archives]
        try:
            run(
                ["apt-get", *self._options(), "-qq", "download", *wanted],
                env=self.environment,
                timeout=DOWNLOAD_TIMEOUT,
                cwd=directory,
            )
        except ProgramFailed as error:
            raise MirrorUnreachable("the packages could not be fetched", lines=error.lines) from error

    def _options(self, status: Path | None = None) -> list[str]:
        settings = {
            "Dir::State": self.directory,
            "Dir::State::lists": self.directory / "lists",
            "Dir::State::status": status or self.directory / "empty-status",
            "Dir::Cache": self.directory,
            "Dir::Etc::sourcelist": self.directory / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": SANDBOX_USER,
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Debug::NoLocking": "true",
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _digest(releases: Sequence[Path]) -> str:
    digest = sha256()
    for release in releases:
        digest.update(release.name.encode() + b"\0" + sha256(release.read_bytes()).digest())
    return digest.hexdigest()


def _archive(line: str) -> Archive:
    match = _ARCHIVE.fullmatch(line)
    if match is None:
        raise MirrorUnreachable("apt names an archive without a SHA-256", lines=(line[:200],))
    package = Package(match["name"], unquote(match["version"]), match["arch"])
    return Archive(package, match["file"], int(match["size"]), match["sha256"])
