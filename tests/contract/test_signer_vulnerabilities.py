"""Where the approved recipe names a feed, the signer holds what was found against the recipe by itself."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imagefactory.errors import EvidenceMissing, VulnerabilitiesFound
from imagefactory.model.evidence import Evidence
from imagefactory.model.vulnerabilities import Feed, Finding, VulnerabilityScan
from imagefactory.steps.signing_order import SigningOrder
from signing.errors import ProvenanceInvalid
from tests.contract.test_signer import RECIPE, Desk, desk, digest_of, signed_by

__all__ = ["desk"]

TODAY = datetime.now(UTC).date()
FEED = Feed("https://example.org/data/json", "debian-tracker", "c" * 64, TODAY)
HIGH = Finding("CVE-2026-0001", "openssl", "3.0.17-1", "high", "3.0.18-1")
LOW = Finding("CVE-2026-0002", "openssl", "3.0.17-1", "low")
WANTED: Mapping[str, Any] = {"feed": FEED.source, "max_severity": "medium"}


def excepting(cve: str, days: int) -> Mapping[str, str]:
    return {"cve": cve, "reason": "not reached", "owner": "SOE", "expires": str(TODAY + timedelta(days=days))}


def found(*findings: Finding, **feed: Any) -> Mapping[str, Any]:  # noqa: ANN401 - fields of any kind
    packages = {each.source: ("libssl3",) for each in findings}
    return {"scan": VulnerabilityScan(replace(FEED, **feed), 2, findings, packages).to_json()}


def order(desk: Desk, wanted: object, facts: Mapping[str, Any] | None) -> SigningOrder:
    recipe = {**RECIPE, "vulnerabilities": wanted}
    desk.approved.add(digest_of(recipe))
    extra = () if facts is None else (Evidence("vulnerabilities", desk.evidence[0].about, "pass", facts),)
    evidence = (*desk.evidence, *extra)
    provenance = desk.attest(evidence=evidence, recipe=recipe, recipe_digest=digest_of(recipe))
    return desk.order(provenance, evidence=evidence)


@pytest.mark.parametrize(
    ("wanted", "facts"),
    [
        (WANTED, found()),
        (WANTED, found(LOW)),
        ({**WANTED, "max_severity": "high"}, found(LOW, HIGH)),
        ({**WANTED, "exceptions": [excepting(HIGH.id, 0)]}, found(HIGH)),
        (WANTED, found(dated=TODAY - timedelta(days=7))),
        (None, found(HIGH)),  # nobody asked
    ],
)
def test_what_is_let_pass_is_signed(desk: Desk, wanted: object, facts: Mapping[str, Any]) -> None:
    assert signed_by(desk, order(desk, wanted, facts))


@pytest.mark.parametrize(
    ("wanted", "facts", "error", "says"),
    [
        (WANTED, None, EvidenceMissing, "of kind vulnerabilities"),
        (WANTED, found(LOW, HIGH), VulnerabilitiesFound, "CVE-2026-0001 in openssl 3.0.17-1, severity high"),
        (WANTED, found(replace(LOW, severity="unknown")), VulnerabilitiesFound, "severity unknown"),
        ({**WANTED, "exceptions": [excepting(HIGH.id, -1)]}, found(HIGH), VulnerabilitiesFound, "expired"),
        ({**WANTED, "exceptions": [excepting(LOW.id, 1)]}, found(HIGH), VulnerabilitiesFound, "severity high"),
        (WANTED, found(dated=TODAY - timedelta(days=8)), VulnerabilitiesFound, "more than 7 days ago"),
        (WANTED, found(dated=TODAY + timedelta(days=2)), VulnerabilitiesFound, "has not come yet"),
        (
            WANTED,
            found(source="https://example.org/none"),
            VulnerabilitiesFound,
            "was looked up in https://example.org/n",
        ),
        (WANTED, {"counts": {}}, ProvenanceInvalid, "cannot be read"),
        (WANTED, {"scan": "clean"}, ProvenanceInvalid, "cannot be read"),
        (WANTED, {"scan": {**found()["scan"], "packages": []}}, ProvenanceInvalid, "cannot be read"),
        ({"feed": FEED.source}, found(), ProvenanceInvalid, "cannot be read"),
        ({**WANTED, "max_severity": "unknown"}, found(), ProvenanceInvalid, "cannot be read"),
        ({**WANTED, "exceptions": [{}]}, found(), ProvenanceInvalid, "cannot be read"),
        ([FEED.source], found(), ProvenanceInvalid, "that is none"),
    ],
)
def test_what_is_worse_is_refused(
    desk: Desk, wanted: object, facts: Mapping[str, Any] | None, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        signed_by(desk, order(desk, wanted, facts))


def test_what_is_known_of_another_image_proves_nothing(desk: Desk) -> None:
    made = order(desk, WANTED, found())
    strange = tuple(
        replace(piece, about=f"sha256:{'5' * 64}") if piece.kind == "vulnerabilities" else piece
        for piece in made.evidence
    )
    with pytest.raises(EvidenceMissing):
        signed_by(desk, replace(made, evidence=strange))
