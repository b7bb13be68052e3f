"""Where the approved recipe wants a standard kept, the signer holds the measurement against it by itself."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imagefactory.errors import ComplianceFailed, EvidenceMissing
from imagefactory.model.compliance import RuleResult, Scan, Standard
from imagefactory.model.evidence import Evidence
from imagefactory.steps.signing_order import SigningOrder
from signing.errors import ProvenanceInvalid
from tests.contract.test_signer import RECIPE, Desk, desk, digest_of, signed_by

__all__ = ["desk"]

STANDARD = Standard("anssi_bp28_enhanced", "ANSSI-BP-028 (enhanced)", "DEBIAN-12", "c" * 64, "0.1.76-1", "1.3.7")
PASSING = RuleResult("sshd_disable_root_login", "pass", "medium", "No root by ssh")
FAILING = RuleResult("partition_for_boot", "fail", "medium", "/boot is a partition", "guest")
TODAY = datetime.now(UTC).date()


def excepting(rule: str, days: int) -> Mapping[str, str]:
    return {"rule": rule, "reason": "one partition", "owner": "SOE", "expires": str(TODAY + timedelta(days=days))}


def measured(*rules: RuleResult, profile: str = STANDARD.profile) -> Mapping[str, Any]:
    return {"scan": Scan(replace(STANDARD, profile=profile), rules).to_json()}


def order(desk: Desk, wanted: object, facts: Mapping[str, Any] | None) -> SigningOrder:
    recipe = {**RECIPE, "compliance": wanted}
    desk.approved.add(digest_of(recipe))
    extra = () if facts is None else (Evidence("compliance", desk.evidence[0].about, "pass", facts),)
    evidence = (*desk.evidence, *extra)
    provenance = desk.attest(evidence=evidence, recipe=recipe, recipe_digest=digest_of(recipe))
    return desk.order(provenance, evidence=evidence)


WANTED: Mapping[str, Any] = {"profile": STANDARD.profile, "min_score": 50}
HIGH = replace(FAILING, severity="high")


@pytest.mark.parametrize(
    ("wanted", "facts"),
    [
        (WANTED, measured(PASSING, FAILING)),
        ({**WANTED, "exceptions": [excepting(HIGH.rule, 0)]}, measured(PASSING, HIGH)),
        (None, measured(HIGH)),  # nobody asked
        ({**WANTED, "profile": f"xccdf_org.ssgproject.content_profile_{STANDARD.profile}"}, measured(PASSING)),
        ({**WANTED, "content": {"sha256": STANDARD.content}}, measured(PASSING)),
    ],
)
def test_what_reaches_its_gate_is_signed(desk: Desk, wanted: object, facts: Mapping[str, Any]) -> None:
    assert signed_by(desk, order(desk, wanted, facts))


@pytest.mark.parametrize(
    ("wanted", "facts", "error", "says"),
    [
        (WANTED, None, EvidenceMissing, "of kind compliance"),
        ({**WANTED, "min_score": 51}, measured(PASSING, FAILING), ComplianceFailed, "the score is 50.0 %, and 51.0 %"),
        (WANTED, measured(PASSING, HIGH), ComplianceFailed, "severity high, and has no exception"),
        ({**WANTED, "exceptions": [excepting(HIGH.rule, -1)]}, measured(PASSING, HIGH), ComplianceFailed, "expired"),
        (WANTED, measured(PASSING, profile="minimal"), ComplianceFailed, "was measured by minimal"),
        (WANTED, measured(), ComplianceFailed, "the score is 0.0 %"),
        (
            WANTED,
            measured(PASSING, replace(FAILING, outcome="pass", judge="files")),
            ComplianceFailed,
            "only a running system can answer partition_for_boot",
        ),
        (WANTED, {"score": "100"}, ProvenanceInvalid, "cannot be read"),
        (WANTED, {"scan": "100"}, ProvenanceInvalid, "cannot be read"),
        ({**WANTED, "content": {"sha256": "d" * 64}}, measured(PASSING), ComplianceFailed, "other SCAP content"),
        ({**WANTED, "content": "ours.xml"}, measured(PASSING), ProvenanceInvalid, "cannot be read"),
        ({**WANTED, "profile": 3}, measured(PASSING), ProvenanceInvalid, "cannot be read"),
        ({"min_score": 50}, measured(PASSING), ProvenanceInvalid, "cannot be read"),
        ({**WANTED, "exceptions": [{}]}, measured(PASSING), ProvenanceInvalid, "cannot be read"),
        (["anssi"], measured(PASSING), ProvenanceInvalid, "that is none"),
    ],
)
def test_what_does_not_reach_its_gate_is_refused(
    desk: Desk, wanted: object, facts: Mapping[str, Any] | None, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        signed_by(desk, order(desk, wanted, facts))


def test_a_measurement_of_another_image_proves_nothing(desk: Desk) -> None:
    made = order(desk, WANTED, measured(PASSING))
    strange = tuple(
        replace(piece, about=f"sha256:{'5' * 64}") if piece.kind == "compliance" else piece for piece in made.evidence
    )
    with pytest.raises(EvidenceMissing):
        signed_by(desk, replace(made, evidence=strange))
