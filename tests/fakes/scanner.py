"""A scanner that is a shell script, in a package as Debian's is, and a small real root file system that it runs in."""

import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path

# What the small system has, from this host: dynamically linked programs with their libraries.
PROGRAMS = (
    *("sh", "cat", "chmod", "cp", "echo", "env", "head", "id", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount"),
    *("rm", "sleep", "stat", "touch", "uname", "chroot"),
)
BEHAVIOUR = "etc/behaviour.sh"
HONEST = """\
cat /etc/results.xml > "$results"
echo "<html>report of $profile</html>" > "$report"
exit 2
"""
# It knows where to write and what was asked for, and then does what the image tells it.
OSCAP = """\
#!/bin/sh
set -eu
printf '%s\\n' "$@" > /tmp/argv
while [ $# -gt 1 ]; do
    case "$1" in
        --results) results=$2 ;;
        --report) report=$2 ;;
        --profile) profile=$2 ;;
    esac
    shift
done
content=$1
. /etc/behaviour.sh
"""


def make_tree(tree: Path, files: Mapping[str, str | bytes] | None = None) -> Path:
    """A merged-/usr system with a shell."""
    (tree / "usr/bin").mkdir(parents=True)
    for link in ("bin", "lib", "lib64", "sbin"):
        (tree / "usr" / link).mkdir(exist_ok=True)
        (tree / link).symlink_to(f"usr/{link}")
    for folder in ("proc", "dev", "run", "tmp", "etc", "sys"):
        (tree / folder).mkdir()
    for program in PROGRAMS:
        path = Path(subprocess.run(["which", program], check=True, capture_output=True, text=True).stdout.strip())
        for each in (path, *_libraries(path)):
            place = tree / "usr" / each.relative_to("/usr" if each.is_relative_to("/usr") else "/")
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "--dereference", "--", each, place], check=True)
    for name, content in (files or {}).items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return tree


def make_tar(tree: Path, tar: Path) -> Path:
    subprocess.run(["tar", "--xattrs", "--numeric-owner", "-C", tree, "-cf", tar, "."], check=True)
    return tar


def make_package(directory: Path, name: str, files: Mapping[str, str], version: str = "1.3.7") -> Path:
    """A Debian package of executable files; those below DEBIAN are its maintainer scripts."""
    build = directory / f"{name}.build"
    for path, content in files.items():
        (build / path).parent.mkdir(parents=True, exist_ok=True)
        (build / path).write_text(content)
        (build / path).chmod(0o755)
    (build / "DEBIAN").mkdir(parents=True, exist_ok=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: a <a@b>\nDescription: d\n"
    (build / "DEBIAN/control").write_text(control)
    made = directory / f"{name}_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", build, made], check=True, capture_output=True)
    return made


def make_scanner(directory: Path) -> tuple[Path, ...]:
    """A scanner in two packages; one ships a file below /lib, which is a link in the system."""
    return (
        make_package(directory, "libopenscap", {"lib/openscap/here": "here\n"}),
        make_package(directory, "openscap-scanner", {"usr/bin/oscap": OSCAP}),
    )


def behaviour(script: str) -> str:
    return textwrap.dedent(script)


def _libraries(program: Path) -> list[Path]:
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [Path(word) for line in listed.splitlines() for word in line.split() if word.startswith("/")]
