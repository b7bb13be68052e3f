"""What an audit asks of clouds and tells: one that fails stops no other, and only what is metadata is mended."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer

from imagefactory.cli.audited import leave_audit, tell_audit
from imagefactory.errors import Busy, CloudUnreachable
from imagefactory.lifecycle.audit import Audited, Inspection, Question
from imagefactory.lifecycle.clouds import Clouds
from imagefactory.model.drift import PUBLISH_AGAIN, Drift, Finding
from imagefactory.model.glance import MANIFEST_PROPERTY, RELEASE_PROPERTY, GlanceImage
from imagefactory.model.lifecycle import Held
from imagefactory.model.survey import OtherImage, Survey, SurveyedImage
from imagefactory.model.target import CloudPlace
from imagefactory.progress import Progress
from imagefactory.settings import Settings
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.lock import place_lock
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.strays import FILE, remember
from tests.fakes.places import DISPLAY, Shop
from tests.unit.test_glance_image import DOCUMENT

A, B = "glance:a", "glance:b"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAME = Drift("name", DISPLAY, "Other", fixable=True)
GONE = Drift("image", "an-id", None, fixable=False, advice=PUBLISH_AGAIN)


def surveyed(number: int, release: str = "soe@20261101.1", manifest: str = "a" * 64) -> SurveyedImage:
    document = {**DOCUMENT, RELEASE_PROPERTY: release, MANIFEST_PROPERTY: manifest, "id": str(UUID(int=number))}
    return SurveyedImage.of(GlanceImage.from_json(document))


@dataclass(frozen=True)
class FakeClouds(Clouds):
    """Clouds that have `images` and `others` and find `drift`; `down` are those that do not answer. `asked` are the
    requests, by cloud."""

    images: list[SurveyedImage] = field(default_factory=list)
    others: list[OtherImage] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def survey(self, place: CloudPlace, owner: str | None, progress: Progress, names: Collection[str] = ()) -> Survey:
        del progress
        if place.cloud in self.down:
            raise CloudUnreachable(f"{place.cloud} does not answer")
        others = tuple(each for each in self.others if each.name in names)
        return Survey(owner or "ours", tuple(self.images), others)

    def audit(self, place: CloudPlace, request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        del progress
        self.asked.append((place.cloud, request))
        drift = tuple(
            Drift(each.what, each.expected, each.found, each.fixable, each.advice, request["fix"] and each.fixable)
            for each in self.drift
        )
        findings = [Finding(each["image_id"], each["release"], drift) for each in request["images"]]
        told: dict[str, Any] = json.loads(json.dumps({"images": [asdict(each) for each in findings]}))
        return told


@pytest.fixture
def clouds(tmp_path: Path) -> FakeClouds:
    return FakeClouds(Settings(tmp_path, None, None, (), "", "", "ana", {}))


def audit(shop: Shop, clouds: Clouds, names: tuple[str, ...] = ("soe",), **options: Any) -> list[Audited]:  # noqa: ANN401
    store = ArtifactStore(shop.root / "artifacts")
    inspection = Inspection(shop.keeper(), clouds, store, shop.root / "trust.json", shop.root / "strays")
    return inspection.audit(Question(names, **options), NOW)


def status(found: list[Audited]) -> int:
    """How the command ends."""
    try:
        leave_audit(found, as_json=False)
    except typer.Exit as end:
        return int(end.exit_code)
    return 0


def test_every_image_is_asked_about_as_the_records_have_it(shop: Shop, clouds: FakeClouds) -> None:
    old, new = shop.release(A, B), shop.release(A, B, "catalogue:/c")
    shop.ledger.hold(old, Held.REVOKED, "leaks", "ana", "revoke")
    shop.keeper().settle_everywhere("soe")
    found = audit(shop, clouds, deep=True)
    assert [(each.target, each.drifted, len(each.findings)) for each in found] == [(A, False, 2), (B, False, 2)]
    assert status(found) == 0
    request = dict(clouds.asked)["a"]
    assert (request["owner"], request["deep"], request["fix"]) == (None, True, False)
    first, second = request["images"]
    assert first["look"] == {"name": DISPLAY, "hidden": False, "deactivated": False, "replacement": None}
    assert (second["look"]["hidden"], second["look"]["deactivated"]) == (True, True)
    assert second["look"]["replacement"] == first["release"] == f"soe@{new.version_day}.{new.version_number}"
    assert first["manifest"].startswith(str(shop.root / "artifacts"))
    assert first["target"] == {"cloud": "a", "owner": None, "visibility": "private", "protected": False}


def test_only_in_one_cloud(shop: Shop, clouds: FakeClouds) -> None:
    shop.release(A, B)
    assert [each.target for each in audit(shop, clouds, cloud="b")] == [B]
    assert audit(shop, clouds, cloud="c") == audit(shop, clouds, names=("other",)) == []


@pytest.mark.parametrize(
    ("drift", "fix", "end", "mended"),
    [
        ([NAME], False, 1, []),
        ([NAME], True, 0, ["name"]),
        ([NAME, GONE], True, 1, ["name"]),
        ([], True, 0, []),
    ],
    ids=["told", "mended", "not all of it", "clean"],
)
def test_what_has_drifted(
    shop: Shop, clouds: FakeClouds, drift: list[Drift], fix: bool, end: int, mended: list[str]
) -> None:
    shop.release(A)
    clouds.drift.extend(drift)
    assert status(audit(shop, clouds, fix=fix)) == end
    entries = [each for each in AuditLog(shop.root / "audit.log").entries() if each.event == "mended"]
    assert [(each.details["what"], each.details["target"], each.details["account"]) for each in entries] == [
        (what, A, "ana") for what in mended
    ]


def test_one_that_does_not_answer_stops_no_other(
    shop: Shop, clouds: FakeClouds, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.release(A, B)
    clouds.down.add("a")
    found = audit(shop, clouds)
    assert [(each.target, len(each.findings), len(each.failures)) for each in found] == [(A, 0, 1), (B, 1, 0)]
    assert status(found) == 4
    tell_audit(found, as_json=True)
    assert "cloud-unreachable" in capsys.readouterr().out
    clouds.drift.append(NAME)
    assert status(audit(shop, clouds)) == 1, "what is known to be wrong comes first"


def test_putting_right_is_for_one_at_a_time_and_looking_is_for_all(shop: Shop, clouds: FakeClouds) -> None:
    shop.release(A)
    with place_lock(shop.root / "locks", "soe", A):
        assert audit(shop, clouds)[0].failures == []
        ((name, failure),) = audit(shop, clouds, fix=True)[0].failures
    assert (name, type(failure)) == ("soe", Busy)


def test_strays_duplicates_and_intruders_are_told(
    shop: Shop, clouds: FakeClouds, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.release(A)
    (known,) = (each for each in shop.ledger.image_ids())
    mine, stray, other = surveyed(UUID(known).int), surveyed(1), surveyed(2, "other@20261101.1", "b" * 64)
    clouds.images.extend([mine, stray, other])
    clouds.others.extend([OtherImage(str(UUID(int=9)), DISPLAY, "public"), OtherImage(str(UUID(int=8)), "x", "public")])
    (first,) = audit(shop, clouds)
    assert [(each.image, each.since) for each in first.strays] == [(stray, None)]
    assert first.duplicates == [(mine, stray)]
    assert [UUID(each.id).int for each in first.intruders] == [9]
    assert status([first]) == 1
    (again,) = audit(shop, clouds)
    assert [each.since for each in again.strays] == [NOW]
    tell_audit([again], as_json=False)
    assert f"known since {NOW:%Y-%m-%d %H:%M}" in capsys.readouterr().out


def test_what_is_remembered_of_strays(tmp_path: Path) -> None:
    later = NOW + timedelta(days=1)
    assert remember(tmp_path, "p", ["x", "y"], NOW) == {}
    assert remember(tmp_path, "q", ["x"], NOW) == {}, "each project has its own"
    assert remember(tmp_path, "p", ["y", "z"], later) == {"y": NOW}
    assert remember(tmp_path, "p", ["x", "y", "z"], later) == {"y": NOW, "z": later}
    (tmp_path / FILE).write_text('{"p": {"y": "never"}}')
    assert remember(tmp_path, "p", ["y"], later) == {}, "one that cannot be read begins anew"
    assert remember(tmp_path, "p", ["y"], later) == {"y": later}
