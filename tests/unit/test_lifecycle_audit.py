"""What an audit asks of clouds and tells: one that fails stops no other, and only what is metadata is mended."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from imagefactory.cli.audited import leave_audit, tell_audit
from imagefactory.errors import Busy, CloudUnreachable
from imagefactory.lifecycle.audit import Audited, Inspection, Question
from imagefactory.lifecycle.clouds import Clouds
from imagefactory.model.drift import PUBLISH_AGAIN, Drift, Finding
from imagefactory.model.glance import MANIFEST_PROPERTY, RELEASE_PROPERTY, GlanceImage
from imagefactory.model.lifecycle import Held
from imagefactory.model.strays import WAIT, Retired, Retirement, Stray
from imagefactory.model.survey import OtherImage, Survey, SurveyedImage
from imagefactory.model.target import CloudPlace
from imagefactory.progress import Progress
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.lock import FileLocks
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
    requests, by cloud; `retired` the images that were to be retired, by cloud and project, `refused` what is said of
    those that were not; `refusing` clouds do not answer then."""

    images: list[SurveyedImage] = field(default_factory=list)
    others: list[OtherImage] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    retired: list[tuple[str, str, str]] = field(default_factory=list)
    refused: dict[str, Retired] = field(default_factory=dict)

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

    def retire(
        self, place: CloudPlace, owner: str, images: Sequence[Mapping[str, str]], progress: Progress
    ) -> dict[str, Retired]:
        del progress
        if place.cloud in self.refusing:
            raise CloudUnreachable(f"{place.cloud} does not answer any more")
        self.retired.extend((place.cloud, owner, each["image_id"]) for each in images)
        done = {each["image_id"]: Retired(each["image_id"], ("hidden", "deactivated")) for each in images}
        return done | {key: said for key, said in self.refused.items() if key in done}


@pytest.fixture
def clouds() -> FakeClouds:
    return FakeClouds(lambda *_: {})


def audit(
    shop: Shop,
    clouds: Clouds,
    names: tuple[str, ...] = ("soe",),
    now: datetime = NOW,
    **options: Any,  # noqa: ANN401
) -> list[Audited]:
    store = ArtifactStore(shop.root / "artifacts")
    inspection = Inspection(shop.keeper(), clouds, store, shop.root / "trust.json", shop.root / "strays")
    return inspection.audit(Question(names, **options), now)


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
    with FileLocks(shop.root / "locks").place("soe", A):
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
    assert f"seen first at {NOW:%Y-%m-%d %H:%M}" in capsys.readouterr().out
    assert clouds.retired == [], "nobody asked for that"


def test_what_is_remembered_of_strays(tmp_path: Path) -> None:
    later = NOW + timedelta(days=1)
    assert remember(tmp_path, "p", ["x", "y"], NOW) == {}
    assert remember(tmp_path, "q", ["x"], NOW) == {}, "each project has its own"
    assert remember(tmp_path, "p", ["y", "z"], later) == {"y": NOW}
    assert remember(tmp_path, "p", ["x", "y", "z"], later) == {"y": NOW, "z": later}
    (tmp_path / FILE).write_text('{"p": {"y": "never"}}')
    assert remember(tmp_path, "p", ["y"], later) == {}, "one that cannot be read begins anew"
    assert remember(tmp_path, "p", ["y"], later) == {"y": later}


# -- strays are retired ------------------------------------------------------------------------------------------------


def retire(shop: Shop, clouds: Clouds, now: datetime) -> Audited:
    """An audit that retires strays."""
    (found,) = audit(shop, clouds, now=now, retire_strays=True)
    return found


def retirements(shop: Shop) -> list[tuple[str, str, str, str]]:
    """What the audit log says of them."""
    entries = [each.details for each in AuditLog(shop.root / "audit.log").entries() if each.event == "stray-retired"]
    return [(each["about"], each["target"], each["image"], each["account"]) for each in entries]


def test_a_stray_is_retired_when_an_audit_of_an_earlier_day_saw_it(
    shop: Shop, clouds: FakeClouds, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.release(A)
    stray, other = surveyed(1), surveyed(2, "other@20261101.1", "b" * 64)
    clouds.images.extend([stray, other])
    for now in (NOW, NOW + WAIT - timedelta(seconds=1)):
        found = retire(shop, clouds, now)
        assert [(each.due, each.done, each.retired) for each in found.strays] == [(NOW + WAIT, (), False)]
        assert status([found]) == 1
        assert (clouds.retired, retirements(shop)) == ([], [])
    found = retire(shop, clouds, NOW + WAIT)
    assert clouds.retired == [("a", "ours", stray.id)], "and none of another name"
    assert [(each.done, each.retired) for each in found.strays] == [(("hidden", "deactivated"), True)]
    assert status([found]) == 0
    assert retirements(shop) == [("soe@20261101.1", A, stray.id, "ana")]
    tell_audit([found], as_json=False)
    assert f"openstack image set --unhidden --activate {stray.id}" in " ".join(capsys.readouterr().out.split())
    tell_audit([found], as_json=True)
    (told,) = json.loads(capsys.readouterr().out)["places"][0]["strays"]
    assert (told["done"], told["retired"], told["since"]) == (["hidden", "deactivated"], True, NOW.isoformat())


def test_what_is_retired_stays_told_and_is_not_asked_for_again(shop: Shop, clouds: FakeClouds) -> None:
    shop.release(A)
    clouds.images.append(replace(surveyed(1), hidden=True, status="deactivated"))
    retire(shop, clouds, NOW)
    found = retire(shop, clouds, NOW + WAIT)
    assert [each.retired for each in found.strays] == [True]
    assert (clouds.retired, retirements(shop), status([found])) == ([], [], 0)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (replace(surveyed(1), protected=True), "protected"),
        (replace(surveyed(1), visibility="shared", members=("p",)), "shared"),
    ],
)
def test_what_somebody_wants_is_left(
    shop: Shop, clouds: FakeClouds, capsys: pytest.CaptureFixture[str], image: SurveyedImage, said: str
) -> None:
    shop.release(A)
    clouds.images.append(image)
    retire(shop, clouds, NOW)
    found = retire(shop, clouds, NOW + WAIT)
    assert (clouds.retired, retirements(shop), status([found])) == ([], [], 1)
    tell_audit([found], as_json=False)
    assert said in capsys.readouterr().out


def test_what_was_recorded_meanwhile_is_no_stray(
    shop: Shop, clouds: FakeClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.release(A)
    clouds.images.append(surveyed(1))
    retire(shop, clouds, NOW)
    known = shop.ledger.image_ids()
    answers = iter([known, {*known, surveyed(1).id}])
    monkeypatch.setattr(type(shop.ledger), "image_ids", lambda _: next(answers))
    assert retire(shop, clouds, NOW + WAIT).strays[0].done == ()
    assert (clouds.retired, retirements(shop)) == ([], [])


def test_strays_are_retired_by_one_at_a_time(shop: Shop, clouds: FakeClouds) -> None:
    shop.release(A)
    clouds.images.append(surveyed(1))
    retire(shop, clouds, NOW)
    with FileLocks(shop.root / "locks").place("soe", A):
        found = retire(shop, clouds, NOW + WAIT)
    assert [(about, type(failure)) for about, failure in found.failures] == [("strays of soe", Busy)]
    assert (len(found.findings), clouds.retired) == (1, []), "the rest is told all the same"


def test_a_cloud_that_refuses_or_goes_away(shop: Shop, clouds: FakeClouds, capsys: pytest.CaptureFixture[str]) -> None:
    shop.release(A, B)
    clouds.images.append(surveyed(1))
    audit(shop, clouds, now=NOW)
    clouds.refusing.add("a")
    clouds.refused[surveyed(1).id] = Retired(surveyed(1).id, ("hidden",), "cloud-forbidden", "may not")
    first, second = audit(shop, clouds, now=NOW + WAIT, retire_strays=True)
    assert [about for about, _ in first.failures] == ["strays of soe"]
    assert [(each.done, each.code, each.retired) for each in second.strays] == [(("hidden",), "cloud-forbidden", False)]
    assert status([second]) == 1
    tell_audit([second], as_json=False)
    assert "[cloud-forbidden]" in capsys.readouterr().out


def test_two_of_one_release_of_which_one_is_retired_are_one(shop: Shop, clouds: FakeClouds) -> None:
    shop.release(A)
    (known,) = shop.ledger.image_ids()
    clouds.images.extend([surveyed(UUID(known).int), replace(surveyed(1), hidden=True, status="deactivated")])
    (found,) = audit(shop, clouds)
    assert (len(found.duplicates), found.drifted) == (1, False)


@given(st.datetimes(timezones=st.just(UTC)), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_nothing_is_due_that_an_earlier_day_did_not_see(now: datetime, since: datetime | None) -> None:
    assume(now.year < 9999 and (since is None or since.year < 9999))
    stray = Stray.seen(surveyed(1), since, now)
    assert (stray.due <= now) == (since is not None and now - since >= timedelta(hours=24))


@pytest.mark.parametrize("images", [[1, 1], ["x"]])
def test_a_request_that_makes_no_sense(images: list[object]) -> None:
    listed = [
        {"image_id": str(UUID(int=each)) if isinstance(each, int) else each, "release": "soe@20261101.1"}
        for each in images
    ]
    with pytest.raises(ValidationError):
        Retirement.model_validate({"cloud": "a", "owner": "a" * 32, "images": listed})
