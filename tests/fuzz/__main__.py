"""Fuzz one target: `python -m tests.fuzz TARGET [--runs N | --seconds N] [--corpus DIRECTORY]`.

atheris (libFuzzer) changes inputs so that they reach new lines of our code, which is instrumented for that. Finds are
kept in the corpus; an input that lets something out of the target is written beside it as crash-..., and the exit
status is not 0. To see one again, give its path as INPUT.

`python -m tests.fuzz all --corpus DIRECTORY` is for tests: as many runs of each target as it says that they do.
"""

import argparse
import os
import resource
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["signing", "imagefactory", "tarfile"]):
    from tests.fuzz.targets import TARGETS

MOST_MEMORY = 2048  # MiB


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("target", choices=["all", "list", *sorted(TARGETS)])
    parser.add_argument("input", nargs="?", type=Path, help="run this one input and nothing else")
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--corpus", type=Path, help="kept from run to run; a temporary directory where none is given")
    given = parser.parse_args()
    if given.target == "list":
        print(*sorted(TARGETS))  # noqa: T201
        return
    if given.target == "all":
        fuzz_all(given.corpus)
        return
    target = TARGETS[given.target]
    if given.input is not None:
        target.run(given.input.read_bytes())
        return
    with tempfile.TemporaryDirectory() as scratch:
        finds = given.corpus.parent if given.corpus else Path.cwd()
        fuzz(given.target, given.corpus or Path(scratch), finds, given.runs, given.seconds)


def fuzz(name: str, corpus: Path, finds: Path, runs: int, seconds: int) -> None:
    """Fuzz one target, and leave inputs that let something out in `finds`. Ends the process."""
    target = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / sha256(seed).hexdigest()).write_bytes(seed)
    options = [f"-runs={runs}", f"-max_total_time={seconds}", "-max_len=8192", "-timeout=20"]
    # The peak that Linux tells begins with that of whoever started us.
    inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    options.append(f"-rss_limit_mb={MOST_MEMORY + inherited}")
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={finds}/{name}-", str(corpus)], target.run)
    atheris.Fuzz()


def fuzz_all(directory: Path) -> None:
    """Fuzz each target in a process of its own, which is a copy of this one: to change the imported code takes longer
    than the runs. Below `directory` each has one of its name, with its `corpus`, its finds, its `log` and its `status`.
    """
    for name, target in TARGETS.items():
        place = directory / name
        place.mkdir()
        child = os.fork()
        if not child:
            with (place / "log").open("wb") as log:
                os.dup2(log.fileno(), sys.stdout.fileno())
                os.dup2(log.fileno(), sys.stderr.fileno())
            fuzz(name, place / "corpus", place, target.runs, seconds=0)
        (place / "status").write_text(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


if __name__ == "__main__":
    main()
