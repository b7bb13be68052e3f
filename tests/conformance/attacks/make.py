"""Make the attack corpus anew: `make attacks`. The keys are fresh, live in memory and die with the process."""

import shutil
import sys
from pathlib import Path

from tests.conformance.attacks.bindings import bindings
from tests.conformance.attacks.certificates import certificates
from tests.conformance.attacks.checksums import checksums
from tests.conformance.attacks.clocks import clocks
from tests.conformance.attacks.corpus import Corpus
from tests.conformance.attacks.documents import documents
from tests.conformance.attacks.file_system import file_system
from tests.conformance.attacks.folders import folders
from tests.conformance.attacks.glance_labels import glance_labels
from tests.conformance.attacks.good import good
from tests.conformance.attacks.images import images
from tests.conformance.attacks.lies import lies
from tests.conformance.attacks.names import names
from tests.conformance.attacks.races import races
from tests.conformance.attacks.signatures import signatures
from tests.conformance.attacks.statements import statements
from tests.conformance.attacks.trust_files import trust_files

CASES = Path(__file__).parent / "cases"
SECTIONS = (
    good,
    images,
    bindings,
    signatures,
    checksums,
    folders,
    certificates,
    glance_labels,
    clocks,
    documents,
    statements,
    names,
    file_system,
    races,
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
