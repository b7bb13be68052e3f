"""Which versions of the host's programs would be used."""

from collections.abc import Mapping, Sequence

from imagefactory.tools.process import run


def versions(packages: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The version of each Debian package that is installed on this host; the others are left out."""
    shown = run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status} ${Version}\n", *packages],
        env=environment,
        timeout=30.0,
        accept=(0, 1),
    )
    rows = (line.split() for line in shown.stdout.decode(errors="replace").splitlines())
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}
