"""A running guest measures itself: what its kernel, its mounts and its service manager are like, no file tells.

The scanner and the content come on a read-only disk and are used from there; nothing is installed. What the guest says
is no more than its own word, as is all that an image says of itself. It is asked for rules by name; of what it says of
one, the worst counts.
"""

import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from imagefactory.model.compliance import Outcome
from imagefactory.tools import data_disk
from imagefactory.tools.oscap import OUTCOMES, worst
from imagefactory.tools.scap import Kit, unpack

LABEL = "SCANNER"
CONTENT, TAILORING = "content.xml", "tailoring.xml"
# What makes a scanner, and not what explains one.
NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
# For each rule about a kernel parameter OpenSCAP 1.3.7 walks the whole of /proc/sys: 1.3 s in emulation. A third of
# that are the parameters of each interface by its name, and of neighbours. Unless a rule asks for such a one, the
# scanner, and it alone, sees empty directories in their place.
OF_INTERFACES = "/proc/sys/net/ipv[46]/conf/* /proc/sys/net/ipv[46]/neigh"
ASKS_FOR_THEM = re.compile("sysctl_net_ipv[46]_(neigh|conf_(?!all_|default_))")
# OpenSCAP 1.3.7 may wait for itself for ever: all its threads were seen to sleep. It says a line for each rule, so one
# that has said nothing for this long is ended, and asked again.
STALLED, ATTEMPTS = 90, 3  # seconds, and how often it is asked


@dataclass(frozen=True)
class GuestScan:
    """What a guest is asked: the `disk` with the scanner, the id of the `profile`, whether the tailoring on the disk
    has it, and the `rules`, id to short name."""

    disk: Path
    profile: str
    tailored: bool
    rules: Mapping[str, str]

    @property
    def script(self) -> str:
        """For POSIX sh, as the default user. Its output is for `outcomes`."""
        evaluate = ["xccdf", "eval", "--skip-valid", "--progress", "--profile", self.profile]
        if self.tailored:
            evaluate += ["--tailoring-file", f"/run/scanner/{TAILORING}"]
        for rule in self.rules:
            evaluate += ["--rule", rule]
        unseen = "" if any(map(ASKS_FOR_THEM.match, self.rules.values())) else OF_INTERFACES
        command = shlex.join([*evaluate, f"/run/scanner/{CONTENT}"])
        inside = shlex.quote(_UNSEEN.format(places=unseen) + WATCHED)
        return _SCRIPT.format(label=LABEL, inside=inside, stalled=STALLED, evaluate=command)

    def outcomes(self, said: str) -> dict[str, Outcome]:
        """What the guest says of each rule, by short name; "unknown" of a rule that it says nothing of."""
        found: dict[str, Outcome] = {}
        for line in said.splitlines():
            # `oscap xccdf eval --progress` says RULE:OUTCOME, once for each check of the rule (openscap 1.3.7).
            rule, _, word = line.partition(":")
            if rule in self.rules:
                outcome = cast(Outcome, word) if word in OUTCOMES else "unknown"
                found[rule] = worst(outcome, found.get(rule))
        return {name: found.get(rule, "unknown") for rule, name in self.rules.items()}


_UNSEEN = """\
for each in {places}; do
    case $each in */all | */default) ;; *) mount -t tmpfs -o ro,nosuid,nodev,noexec,size=4k none "$each" ;; esac
done
"""
# sh -eu -c WATCHED sh SECONDS COMMAND...: what COMMAND says, once it has ended by itself.
WATCHED = f"""\
stalled=$1 attempt=1
shift
said=$(mktemp)
while :; do
    "$@" >"$said" &
    scanner=$!
    {{
        size=
        while sleep "$stalled"; do
            before=$size size=$(stat -c %s "$said")
            [ "$size" != "$before" ] || kill -KILL "$scanner"
        done
    }} >/dev/null 2>&1 &
    watcher=$! status=0
    wait "$scanner" || status=$?
    kill "$watcher" 2>/dev/null || :  # it may have ended with the scanner
    [ "$status" = 137 ] && [ "$attempt" -lt {ATTEMPTS} ] || break
    attempt=$((attempt + 1))
done
cat "$said"
rm -f "$said"
exit "$status"
"""

# Libraries that the image has come from there; others, and the scanner, from the disk.
_SCRIPT = """\
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
as_root() {{ if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi </dev/null; }}  # what follows here is not for it
as_root mkdir -p /run/scanner
as_root mount -o ro,nosuid,nodev /dev/disk/by-label/{label} /run/scanner
oscap=/run/scanner/usr/bin/oscap
[ -x "$oscap" ] || oscap=oscap
usr=/run/scanner/usr/lib lib=/run/scanner/lib  # a package may use either, and either with a folder for its architecture
libraries=$usr/x86_64-linux-gnu:$usr:$lib/x86_64-linux-gnu:$lib
share=/run/scanner/usr/share/openscap
inside={inside}
errors=$(mktemp)
status=0
as_root unshare --mount sh -eu -c "$inside" sh {stalled} env LD_LIBRARY_PATH="$libraries" \\
    OSCAP_SCHEMA_PATH="$share/schemas" OSCAP_XSLT_PATH="$share/xsl" OSCAP_CPE_PATH="$share/cpe" \\
    "$oscap" {evaluate} 2>"$errors" || status=$?
as_root umount /run/scanner
[ "$status" = 0 ] || [ "$status" = 2 ] || tail -n 20 "$errors"
rm -f "$errors"
[ "$status" = 0 ] || [ "$status" = 2 ]
"""


def make_disk(disk: Path, kit: Kit, tailoring: Path | None, *, environment: Mapping[str, str]) -> None:
    """Make the new `disk`. Raises ProgramMissing, ProgramFailed, DiskFull."""
    tree = disk.with_suffix(".tree")
    tree.mkdir()
    for package in kit.scanner:
        unpack(package, tree, environment=environment)
    for name in NEEDLESS:
        shutil.rmtree(tree / name, ignore_errors=True)
    shutil.copyfile(kit.content, tree / CONTENT)
    if tailoring is not None:
        shutil.copyfile(tailoring, tree / TAILORING)
    data_disk.make(disk, LABEL, tree, environment=environment)
    shutil.rmtree(tree)
