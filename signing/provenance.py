"""Where a release came from: SLSA provenance v1, written by the builder and signed with its only key.

Format: https://slsa.dev/spec/v1.0/provenance, with our build type ::

    {"buildDefinition": {"buildType": "urn:imagefactory:build:v1", "externalParameters": {...},
                         "internalParameters": {...}, "resolvedDependencies": [{...}, ...]},
     "runDetails": {"builder": {"id": URI},
                    "metadata": {"invocationId": ID, "startedOn": TIME, "finishedOn": TIME},
                    "byproducts": [{...}, ...]}}

What the parameters hold is the builder's business and the signer's policy; here they are objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from signing.errors import ProvenanceInvalid
from signing.fields import Fields, format_time
from signing.statement import PROVENANCE_TYPE, Subject, read_statement, write_statement

BUILD_TYPE = "urn:imagefactory:build:v1"


@dataclass(frozen=True)
class Provenance:
    """A provenance statement. Times are aware UTC; parameters are plain JSON values."""

    subjects: tuple[Subject, ...]
    external_parameters: Mapping[str, Any]
    builder_id: str
    invocation_id: str
    started: datetime
    finished: datetime
    internal_parameters: Mapping[str, Any] = field(default_factory=dict)
    resolved_dependencies: Sequence[Mapping[str, Any]] = ()
    byproducts: Sequence[Mapping[str, Any]] = ()

    def to_statement(self) -> dict[str, Any]:
        """Return the in-toto statement as plain values. Raises: ProvenanceInvalid."""
        try:
            metadata = {
                "invocationId": self.invocation_id,
                "startedOn": format_time(self.started),
                "finishedOn": format_time(self.finished),
            }
        except ValueError as why:
            raise ProvenanceInvalid(f"provenance: {why}") from None
        predicate = {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(self.external_parameters),
                "internalParameters": dict(self.internal_parameters),
                "resolvedDependencies": [dict(each) for each in self.resolved_dependencies],
            },
            "runDetails": {
                "builder": {"id": self.builder_id},
                "metadata": metadata,
                "byproducts": [dict(each) for each in self.byproducts],
            },
        }
        statement = write_statement(self.subjects, PROVENANCE_TYPE, predicate, ProvenanceInvalid)
        self.from_statement(statement)
        return statement

    @classmethod
    def from_statement(cls, statement: Mapping[str, Any]) -> "Provenance":
        """Return what a statement says, every field checked. Raises: ProvenanceInvalid."""
        subjects, predicate = read_statement(statement, PROVENANCE_TYPE, ProvenanceInvalid)
        with predicate:
            with predicate.inner("buildDefinition") as definition:
                definition.exactly("buildType", BUILD_TYPE)
                external = definition.object("externalParameters")
                internal = definition.object("internalParameters")
                dependencies = _objects(definition, "resolvedDependencies")
            with predicate.inner("runDetails") as run:
                with run.inner("builder") as builder:
                    builder_id = builder.text("id")
                with run.inner("metadata") as metadata:
                    invocation = metadata.text("invocationId")
                    started, finished = metadata.time("startedOn"), metadata.time("finishedOn")
                byproducts = _objects(run, "byproducts")
        if finished < started:
            raise ProvenanceInvalid("the provenance says that the build finished before it started")
        return cls(subjects, external, builder_id, invocation, started, finished, internal, dependencies, byproducts)


def _objects(fields: Fields, key: str) -> tuple[dict[str, Any], ...]:
    values = fields.array(key)
    if not all(isinstance(each, dict) for each in values):
        raise ProvenanceInvalid(f"{fields.where}: {key!r} holds something that is not an object")
    return tuple(values)
