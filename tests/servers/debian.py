"""Debian packages of servers, without the service that each would start, and accounts."""

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.errors import ServerError

Say = Callable[[str], None]

# What Debian's packages ask before they start something: 101 says no.
POLICY = Path("/usr/sbin/policy-rc.d")
DENY = "#!/bin/sh\nexit 101\n"
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def install(packages: Sequence[str], say: Say) -> None:
    """Install those that are missing, as root. Done twice, it does nothing the second time. Raises ServerError."""
    missing = [package for package in packages if not installed(package)]
    if not missing:
        return
    if os.getuid() != 0:
        raise ServerError(
            f"{', '.join(missing)} is not installed, and only root may: sudo python -m tests.servers prepare"
        )
    say(f"Installing Debian packages: {' '.join(missing)}")
    with nothing_starts():
        apt_get("update", "-qq")
        apt_get("install", "-y", "-qq", "--no-install-recommends", *missing)


def make_accounts(file: Path, say: Say) -> None:
    """Make the accounts that a file of sysusers.d(5) names, unless they are there. Raises ServerError."""
    wanted = {words[1] for words in map(str.split, file.read_text().splitlines()) if words[:1] == ["u"]}
    if wanted <= {entry.pw_name for entry in pwd.getpwall()}:
        return
    say(f"Making the accounts of {file.name}: {' '.join(sorted(wanted))}")
    done = subprocess.run(["systemd-sysusers", str(file)], env=QUIET, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerError(f"systemd-sysusers failed with status {done.returncode}.\n{done.stderr[-2000:]}")


def installed(package: str) -> bool:
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", package)
    return subprocess.run(query, capture_output=True, check=False).stdout == b"installed"


@contextmanager
def nothing_starts() -> Iterator[None]:
    """A host that has a policy of its own keeps it."""
    try:
        descriptor = os.open(POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        yield
        return
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(DENY)
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink()


def apt_get(*arguments: str) -> None:
    """Raises ServerError."""
    environment = {**QUIET, **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}}
    done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerError(f"apt-get {arguments[0]} failed with status {done.returncode}.\n{done.stderr[-2000:]}")
