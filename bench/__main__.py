"""Side by side with peers on this host: .venv/bin/python -m bench [NAME ...] [--runs N] [--work DIRECTORY].

Needs root (root file systems are built), the network, and about 12 GiB in the work directory; what is about catalogues
needs neither a build nor the network. Nothing here is a promise: the ratios are what counts, and only against what ran
beside them.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from bench import cases, catalogues, clouds, lifecycle, service
from bench.measure import Comparison
from bench.memory import Peaks


class Result(Protocol):
    """What was measured, as lines for people, and whether its goal was reached."""

    @property
    def met(self) -> bool: ...

    def lines(self) -> list[str]: ...


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
    "clouds": (clouds.several, 3),
    "rootfs": (cases.rootfs, 3),
}
# These need no build.
OF_CATALOGUES: Mapping[str, tuple[Callable[[Path, int], Comparison], int]] = {
    "catalogue-cold": (catalogues.cold, 9),
    "catalogue-warm": (catalogues.warm, 15),
    "catalogue-inside": (catalogues.warm_inside, 15),
    "catalogue-publish": (catalogues.one_more, 9),
}
# These need a cloud on loopback, and no build either.
OF_CLOUDS: Mapping[str, tuple[Callable[[Path, int], Comparison], int]] = {
    "lifecycle-survey": (lifecycle.against_bare, 3),
    "lifecycle-plan": (lifecycle.plan_against_bare, 3),
    "lifecycle-growth": (lifecycle.plan_grows, 3),
}

# These need a broker and a database, which they start.
OF_SERVICE: Mapping[str, tuple[Callable[[Path, int], Comparison], int]] = {
    "service-messages": (service.messages, 5),
    "service-steps": (service.steps, 5),
    "service-tick": (service.tick, 9),
}

MEMORY_GOAL = 150 << 20  # bytes
INSIDE = "IMAGEFACTORY_BENCH_NAMESPACE"


def main() -> int:
    """Run the cases and print what they gave. Returns 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", choices=[[], *OF_CATALOGUES, *OF_SERVICE, *OF_CLOUDS, *CASES], help="default: all"
    )
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
    wanted = arguments.names or [*OF_CATALOGUES, *OF_SERVICE, *OF_CLOUDS, *CASES]
    results = itertools.chain(
        _of_catalogues(arguments.work, wanted, arguments.runs),
        _of_service(arguments.work, wanted, arguments.runs),
        _of_clouds(arguments.work, wanted, arguments.runs),
        _of_builds(arguments.work, wanted, arguments.runs),
    )
    missed = [each for each in results if not _told(each)]
    return 1 if missed else 0


def _of_catalogues(work: Path, wanted: Sequence[str], runs: int | None) -> Iterator[Result]:
    chosen = [name for name in wanted if name in OF_CATALOGUES]
    for name in chosen:
        case, usual = OF_CATALOGUES[name]
        yield case(work, runs or usual)
    if chosen:
        yield catalogues.rewritten(work)
        yield catalogues.flat(work)


def _of_service(work: Path, wanted: Sequence[str], runs: int | None) -> Iterator[Result]:
    chosen = [name for name in wanted if name in OF_SERVICE]
    for name in chosen:
        case, usual = OF_SERVICE[name]
        yield case(work, runs or usual)
    if "service-messages" in chosen:
        yield service.memory(work)


def _of_clouds(work: Path, wanted: Sequence[str], runs: int | None) -> Iterator[Result]:
    chosen = [name for name in wanted if name in OF_CLOUDS]
    for name in chosen:
        case, usual = OF_CLOUDS[name]
        yield case(work, runs or usual)
    if "lifecycle-survey" in chosen:
        yield lifecycle.memory(work)


def _of_builds(work: Path, wanted: Sequence[str], runs: int | None) -> Iterator[Result]:
    chosen = [name for name in wanted if name in CASES]
    if not chosen:
        return
    ground = cases.prepare(work)
    yield Peaks("a whole build", MEMORY_GOAL, ground.peaks)
    for name in chosen:
        case, usual = CASES[name]
        yield case(ground, runs or usual)
    if "upload" in chosen:
        yield clouds.memory(ground)


def _told(result: Result) -> bool:
    print("\n".join(result.lines()), flush=True)
    return result.met


if __name__ == "__main__":
    sys.exit(main())
