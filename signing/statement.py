"""in-toto Statement v1: which files (subjects), and what is said about them (predicate).

Format: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md ::

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "NAME-VERSION.qcow2", "digest": {"sha256": HEX, "sha512": HEX}}, ...],
     "predicateType": URI, "predicate": {...}}

Our statements have at least one subject, plain file names as subject names, no name twice, and both digests of each.
Each predicate type is signed by keys of one purpose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from signing.errors import DocumentInvalid
from signing.fields import PLAIN_FILE, SHA256_HEX, SHA512_HEX, Fields
from signing.keys import Purpose

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
RELEASE_TYPE = "urn:imagefactory:release:v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"

_PURPOSES: Mapping[str, Purpose] = {RELEASE_TYPE: "release", PROVENANCE_TYPE: "provenance"}


@dataclass(frozen=True, order=True)
class Subject:
    """One file: plain name, and digests in lower-case hex."""

    name: str
    sha256: str
    sha512: str


def purpose_for(statement: Mapping[str, Any]) -> Purpose:
    """Return the purpose of the keys that may sign this type of statement. Raises: DocumentInvalid."""
    kind = statement.get("predicateType")
    if not isinstance(kind, str) or kind not in _PURPOSES:
        raise DocumentInvalid("nobody signs statements of this predicate type")
    return _PURPOSES[kind]


def write_statement(
    subjects: Sequence[Subject], predicate_type: str, predicate: Mapping[str, Any], error: type[DocumentInvalid]
) -> dict[str, Any]:
    """Return the statement as plain values, after reading it back. Raises: `error`."""
    statement: dict[str, Any] = {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": each.name, "digest": {"sha256": each.sha256, "sha512": each.sha512}} for each in sorted(subjects)
        ],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    read_statement(statement, predicate_type, error)
    return statement


def read_statement(
    statement: Mapping[str, Any], predicate_type: str, error: type[DocumentInvalid]
) -> tuple[tuple[Subject, ...], Fields]:
    """Return the subjects, sorted by name, and the predicate for reading field by field. Raises: `error`."""
    with Fields(statement, "statement", error) as fields:
        fields.exactly("_type", STATEMENT_TYPE)
        fields.exactly("predicateType", predicate_type)
        subjects = [_read_subject(each, error) for each in fields.array("subject")]
        predicate = fields.inner("predicate")
    if not subjects:
        raise error("the statement has no subject")
    if len({each.name for each in subjects}) != len(subjects):
        raise error("the statement names a subject twice")
    return tuple(sorted(subjects)), predicate


def _read_subject(value: object, error: type[DocumentInvalid]) -> Subject:
    with Fields(value, "subject", error) as fields:
        name = fields.text("name", PLAIN_FILE)
        with fields.inner("digest") as digest:
            return Subject(name, digest.text("sha256", SHA256_HEX), digest.text("sha512", SHA512_HEX))
