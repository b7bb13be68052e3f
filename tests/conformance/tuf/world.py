"""A TUF repository on a web server, and our client at work with it, as the public conformance suite has them."""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tuf.api.metadata import Root, TargetFile, Timestamp  # type: ignore[attr-defined]  # public, but not in its __all__

from tests.conformance.tuf.client import main
from tests.fakes.tuf_repository import Repository
from tests.fakes.tuf_site import Site

OK = ""
TOP = ("root", "timestamp", "snapshot", "targets")


def run(*arguments: str) -> str:
    """Our client, in this process: OK, or the code with which it refuses."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        done = main(arguments)
    assert (done == 0) is (said.getvalue() == "")
    assert done in (0, 1)
    return said.getvalue().partition(":")[0]


@dataclass
class World:
    """`home` has what the client keeps and fetches."""

    repository: Repository
    site: Site
    home: Path
    _heard: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        (self.home / "metadata").mkdir(parents=True)
        (self.home / "targets").mkdir()

    # -- the client ----------------------------------------------------------------------------------------------------

    def arguments(self, command: str, *names: str) -> list[str]:
        """What the suite says after the name of the client."""
        where = ["--metadata-url", f"{self.site.url}/metadata/", "--metadata-dir", str(self.home / "metadata")]
        wanted = [word for name in names for word in ("--target-name", name)]
        there = ["--target-dir", str(self.home / "targets"), "--target-base-url", f"{self.site.url}/targets/"]
        return [*where, *wanted, *there * bool(names), command]

    def init_arguments(self, root: bytes | None = None) -> list[str]:
        file = self.home / "root"
        file.write_bytes(self.repository.first_root if root is None else root)
        return ["--metadata-dir", str(self.home / "metadata"), "init", str(file)]

    def init(self, root: bytes | None = None) -> None:
        assert run(*self.init_arguments(root)) == OK
        assert self.asked() == []

    def refresh(self) -> str:
        return run(*self.arguments("refresh"))

    def download(self, *names: str) -> str:
        return run(*self.arguments("download", *names))

    # -- what is seen of it --------------------------------------------------------------------------------------------

    def asked(self) -> list[str]:
        """The metadata that it asked for since the last time, without its suffix; the names of targets."""
        new, self._heard = self.site.asked[self._heard :], len(self.site.asked)
        paths = [path.removeprefix("/catalogue/") for path in new]
        return [path.removeprefix("metadata/").removesuffix(".json") for path in paths]

    def kept(self, role: str) -> bytes:
        """The metadata of a role that it trusts."""
        return (self.home / "metadata" / f"{role}.json").read_bytes()

    def trusted(self) -> dict[str, int]:
        """The versions of all roles that it trusts."""
        files = (self.home / "metadata").glob("*.json")
        return {file.stem: int(json.loads(file.read_bytes())["signed"]["version"]) for file in files}

    def fetched(self) -> set[bytes]:
        """The contents of the targets that it has."""
        return {file.read_bytes() for file in (self.home / "targets").iterdir()}

    # -- the repository ------------------------------------------------------------------------------------------------

    def put(self, role: str, path: str, content: bytes, algorithms: Sequence[str] = ("sha256",)) -> None:
        """List a target in the next version of a role."""
        target = TargetFile.from_data(path, content, list(algorithms))
        self.repository.role(role).targets[path] = target
        for digest in target.hashes.values():
            self.serve(path, digest, content)

    def serve(self, path: str, digest: str, content: bytes) -> None:
        """What a client gets that asks for a target of that digest."""
        folder, slash, name = path.rpartition("/")
        self.repository.write_target(f"{folder}{slash}{digest}.{name}", content)

    def substitute(self, path: str, genuine: bytes, content: bytes) -> None:
        """Somebody else's bytes under the name of the genuine ones."""
        self.serve(path, sha256(genuine).hexdigest(), content)

    def age(self, role: str) -> None:
        """Days pass: what the client keeps of a role has expired since, and what the repository has of that version."""
        tops: dict[str, Root | Timestamp] = {"root": self.repository.root, "timestamp": self.repository.timestamp}
        signed = tops.get(role) or self.repository.role(role)
        before = signed.expires
        signed.expires = signed.expires.replace(year=2020)
        raw = self.repository.signed(signed, role)
        signed.expires = before
        (self.home / "metadata" / f"{role}.json").resolve().write_bytes(raw)
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        self.repository.write(name, raw)


def delegating(world: World, *delegations: tuple[str, str, Sequence[str], bool]) -> None:
    """Publish roles, each as (delegator, name, patterns, whether the search ends there)."""
    for delegator, name, patterns, terminating in delegations:
        world.repository.delegate_from(delegator, name, patterns, terminating)
    world.repository.publish("targets", *world.repository.roles)
