"""Side by side with peers on this host: .venv/bin/python -m bench [NAME ...] [--runs N] [--work DIRECTORY].

Needs root (root file systems are built), the network, and about 12 GiB in the work directory. Nothing here is a
promise: the ratios are what counts, and only against what ran beside them.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from bench import cases, clouds
from bench.measure import Comparison
from bench.memory import Peaks

Case: TypeAlias = Callable[[cases.Ground, int], Comparison]
# The slow ones last; each with the number of runs that it gets by default.
CASES: Mapping[str, tuple[Case, int]] = {
    "unchanged": (cases.unchanged, 5),
    "convert": (cases.convert, 5),
    "verify": (cases.verify, 7),
    "verify-alone": (cases.verify_alone, 7),
    "disk": (cases.disk, 7),
    "upload": (clouds.upload, 5),
    "download": (clouds.download, 5),
    "rootfs": (cases.rootfs, 3),
}

MEMORY_GOAL = 150 << 20  # bytes
INSIDE = "IMAGEFACTORY_BENCH_NAMESPACE"


def main() -> int:
    """Run the cases and print what they gave. Returns 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="default: all")
    parser.add_argument("--runs", type=int, help="interleaved runs of each candidate")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/imagefactory-bench"))  # noqa: S108 - root's own
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("the bench builds root file systems: run it as root\n")
        return 3
    if not os.environ.get(INSIDE):
        # Its tmpfs is nobody else's business, and goes with the namespace.
        os.execvpe(
            "unshare",
            ["unshare", "--mount", "--", sys.executable, "-m", "bench", *sys.argv[1:]],
            {**os.environ, INSIDE: "1"},
        )
    arguments.work.mkdir(mode=0o700, exist_ok=True)
    ground = cases.prepare(arguments.work)
    built = Peaks("a whole build", MEMORY_GOAL, ground.peaks)
    print("\n".join(built.lines()), flush=True)
    missed = not built.met
    for name in arguments.names or CASES:
        case, runs = CASES[name]
        comparison = case(ground, arguments.runs or runs)
        print("\n".join(comparison.lines()), flush=True)
        missed |= not comparison.met
    if not arguments.names or "upload" in arguments.names:
        published = clouds.memory(ground)
        print("\n".join(published.lines()), flush=True)
        missed |= not published.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
