"""Fuzz one target: `python -m tests.fuzz TARGET [--runs N | --seconds N] [--corpus DIRECTORY]`.

atheris (libFuzzer) changes inputs so that they reach new lines of our code, which is instrumented for that. Finds are
kept in the corpus; an input that lets something out of the target is written beside it as crash-..., and the exit
status is not 0. To see one again, give its path as INPUT.
"""

import argparse
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
    parser.add_argument("target", choices=["list", *sorted(TARGETS)])
    parser.add_argument("input", nargs="?", type=Path, help="run this one input and nothing else")
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--corpus", type=Path, help="kept from run to run; a temporary directory where none is given")
    given = parser.parse_args()
    if given.target == "list":
        print(*sorted(TARGETS))  # noqa: T201
        return
    target = TARGETS[given.target]
    if given.input is not None:
        target.run(given.input.read_bytes())
        return
    with tempfile.TemporaryDirectory() as scratch:
        corpus = given.corpus or Path(scratch)
        corpus.mkdir(parents=True, exist_ok=True)
        for seed in target.seeds:
            (corpus / sha256(seed).hexdigest()).write_bytes(seed)
        options = [f"-runs={given.runs}", f"-max_total_time={given.seconds}", "-max_len=8192", "-timeout=20"]
        # The peak that Linux tells begins with that of whoever started us.
        inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        options.append(f"-rss_limit_mb={MOST_MEMORY + inherited}")
        crashes = f"-artifact_prefix={corpus.parent if given.corpus else Path.cwd()}/{given.target}-"
        atheris.Setup([sys.argv[0], *options, crashes, str(corpus)], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
