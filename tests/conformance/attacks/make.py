"""Make the attack corpus anew: `make attacks`. The keys are fresh, live in memory and die with the process."""

import shutil
import sys
from pathlib import Path

from tests.conformance.attacks.bindings import binding
from tests.conformance.attacks.certificates import certificates
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.documents import documents, provenances, times, too_early
from tests.conformance.attacks.file_system import file_system
from tests.conformance.attacks.good import good
from tests.conformance.attacks.images import holes, image_bytes
from tests.conformance.attacks.lies import lies
from tests.conformance.attacks.names import names
from tests.conformance.attacks.signatures import signatures
from tests.conformance.attacks.trust_files import trust_files

CASES = Path(__file__).parent / "cases"
SECTIONS = (
    good,
    image_bytes,
    holes,
    binding,
    signatures,
    certificates,
    times,
    too_early,
    documents,
    provenances,
    names,
    file_system,
    lies,
    trust_files,
)


def make(root: Path) -> None:
    """Write the whole corpus into the new directory `root`."""
    corpus = Corpus(root)
    for section in SECTIONS:
        section(corpus)


def main() -> int:
    shutil.rmtree(CASES, ignore_errors=True)
    make(CASES)
    print(f"{sum(each.is_dir() for each in CASES.iterdir())} cases in {CASES}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
