"""The sweep: what policies say is planned with what places say, and done only where all of it is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from imagefactory.errors import (
    ArtifactMissing,
    CloudUnreachable,
    DuplicateName,
    FactoryError,
    HolderNotShown,
    ImageInUse,
    ImageUnknown,
)
from imagefactory.lifecycle.clouds import Clouds
from imagefactory.lifecycle.places import Order
from imagefactory.lifecycle.sweep import Sweep
from imagefactory.model.lifecycle import Held, Stage, holder, look
from imagefactory.model.recipe_lifecycle import RecipeLife
from imagefactory.model.release import ReleaseRef
from imagefactory.model.survey import Survey, SurveyedImage
from imagefactory.model.target import CloudPlace
from imagefactory.progress import Progress
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release
from tests.fakes.places import DIGEST, DISPLAY, Shop

A, SHELF = "glance:a", "catalogue:/srv"
POLICY = {"keep_at_least": 1, "obsolete_after": "0 days", "delete_after": "0 days", "grace": "0 days"}


@dataclass
class FakeClouds:
    """What clouds say: everything that was shown there, `said` of each image (not in b), and what uses it."""

    shop: Shop
    used: dict[str, str] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    blind: FactoryError | None = None
    said: dict[str, Any] = field(default_factory=dict)
    asked: list[Sequence[str]] = field(default_factory=list)
    asked_as: list[str] = field(default_factory=list)

    def survey(self, place: CloudPlace, owner: str | None, progress: Progress) -> Survey:
        del progress
        if place.cloud in self.unreachable:
            raise CloudUnreachable(f"{place} does not answer")
        rows = [row for name in self.shop.ledger.names() for row in self.shop.ledger.standings(name, str(place))]
        said = {} if place.cloud == "b" else self.said
        return Survey(owner or "mine", tuple(surveyed(str(each.image_id), **said) for _, each, _ in rows))

    def usage(self, admin: str, image_ids: Sequence[str], progress: Progress) -> dict[str, str]:
        del progress
        self.asked.append(image_ids)
        self.asked_as.append(admin)
        if self.blind is not None and admin != "sees-all":
            raise self.blind
        return {each: self.used[each] for each in image_ids if each in self.used}


def surveyed(image_id: str, **said: Any) -> SurveyedImage:  # noqa: ANN401 - as SurveyedImage has them
    image = SurveyedImage(
        id=image_id,
        name="",
        status="active",
        owner="mine",
        visibility="private",
        hidden=True,
        protected=False,
        disk_format="qcow2",
        size=7,
        hash_value="",
        min_ram=0,
        min_disk=0,
        tags=(),
        release="",
        manifest_sha256=DIGEST,
        replacement=None,
        signature={},
        members=(),
    )
    return replace(image, **said)


def sweep(shop: Shop, clouds: FakeClouds, **policy: object) -> Sweep:
    life = RecipeLife.model_validate({"lifecycle": {**POLICY, **policy}, "in_use_cloud": "admin"})
    return Sweep(shop.keeper(), cast("Clouds", clouds), lambda _: life)


def now() -> datetime:
    return datetime.now(UTC)


def stages(shop: Shop, target: str = A, name: str = "soe") -> list[str]:
    return [str(standing.stage) for _, _, standing in shop.ledger.standings(name, target)]


def retired(shop: Shop, release: Release, *targets: str) -> None:
    """Make a release obsolete in places."""
    kept = shop.records.release(ReleaseRef(release.name, release_version(release)))
    for each in kept.publications:
        if each.target in targets:
            shop.keeper().advance(kept, each, Stage.DEPRECATED, Stage.OBSOLETE, "lifecycle", None)


def image_id(shop: Shop, release: Release) -> str:
    return str(shop.records.release(ReleaseRef(release.name, release_version(release))).publications[0].image_id)


# -- planned and done --------------------------------------------------------------------------------------------------


def test_one_step_at_a_time_until_it_is_gone(shop: Shop) -> None:
    shop.release(A)
    shop.release(A)
    mine = sweep(shop, FakeClouds(shop))
    for expected in (["active", "obsolete"], ["active"], ["active"]):
        plan = mine.plan(["soe"], now())
        assert plan.unknown == ()
        assert [left for each in mine.apply(plan) for left in each.left] == []
        assert stages(shop) == expected
    assert len(shop.places.seen[A]) == 1


def test_what_is_not_due_is_planned_with_its_date_and_not_done(shop: Shop) -> None:
    shop.release(A)
    shop.release(A)
    mine = sweep(shop, FakeClouds(shop), obsolete_after="3 days")
    plan = mine.plan(["soe"], now())
    (planned,) = plan.changes
    assert (planned.change.blocked, planned.change.is_due(plan.now), plan.due()) == (None, False, [])
    mine.apply(plan)
    assert stages(shop) == ["active", "deprecated"]


def test_a_plan_changes_nothing(shop: Shop) -> None:
    shop.release(A)
    shop.release(A)
    lines, asked = len(shop.ledger.history("soe")), len(shop.places.asked)
    assert len(sweep(shop, FakeClouds(shop)).plan(["soe"], now()).due()) == 1
    assert (stages(shop), len(shop.ledger.history("soe")), len(shop.places.asked)) == (
        ["active", "deprecated"],
        lines,
        asked,
    )


def test_while_the_window_is_closed_only_those_act_who_say_so(shop: Shop) -> None:
    shop.release(A)
    shop.release(A)
    at = now()
    window = {"from": f"{(at.hour + 3) % 24:02}:00", "to": f"{(at.hour + 4) % 24:02}:00", "time_zone": "UTC"}
    mine = sweep(shop, FakeClouds(shop), window=window)
    mine.apply(mine.plan(["soe"], at))
    assert stages(shop) == ["active", "deprecated"]
    mine.apply(mine.plan(["soe"], now(), any_time=True))
    assert stages(shop) == ["active", "obsolete"]


def test_an_earlier_run_is_finished_even_if_nothing_is_due(shop: Shop) -> None:
    first, _ = shop.release(A), shop.release(A)
    retired(shop, first, A)
    mine = sweep(shop, FakeClouds(shop), delete_after="9 days")
    mine.apply(mine.plan(["soe"], now()))
    assert shop.places.seen[A][release_version(first)].deactivated


# -- what is not known -------------------------------------------------------------------------------------------------


def test_a_cloud_that_does_not_answer_is_left_alone_and_stops_no_other(shop: Shop) -> None:
    for _ in range(2):
        shop.release(A, "glance:b")
    clouds = FakeClouds(shop, unreachable={"b"})
    mine = sweep(shop, clouds)
    plan = mine.plan(["soe"], now())
    assert [(left.target, type(left.failure)) for left in plan.unknown] == [("glance:b", CloudUnreachable)]
    shop.places.asked.clear()
    mine.apply(plan)
    assert {target for target, _ in shop.places.asked} == {A}
    assert (stages(shop), stages(shop, "glance:b")) == (["active", "obsolete"], ["active", "deprecated"])


def test_a_recipe_that_cannot_be_read_stops_only_its_name(shop: Shop) -> None:
    for name in ("soe", "other"):
        shop.release(A, name=name)
        shop.release(A, name=name)
    mine = sweep(shop, FakeClouds(shop))
    life = mine.life

    def broken(release: Release) -> RecipeLife:
        if release.name == "other":
            raise ArtifactMissing("its provenance is not here")
        return life(release)

    mine = Sweep(mine.keeper, mine.clouds, broken)
    plan = mine.plan(["other", "soe"], now())
    assert [(left.ref.name, left.target) for left in plan.unknown] == [("other", "its recipe")]
    mine.apply(plan)
    assert (stages(shop), stages(shop, name="other")) == (["active", "obsolete"], ["active", "deprecated"])


def test_what_was_decided_is_finished_without_a_recipe(shop: Shop) -> None:
    shop.release(A, "glance:b")
    bad = shop.release(A, "glance:b")
    shop.ledger.hold(bad, Held.ROLLED_BACK, "broken", "ana", "rollback")
    assert len(shop.ledger.unsettled("soe")) > 0

    def broken(release: Release) -> RecipeLife:
        raise ArtifactMissing(f"the provenance of {release.name} is not here")

    mine = Sweep(shop.keeper(), cast("Clouds", FakeClouds(shop)), broken)
    plan = mine.plan(["soe"], now())
    assert (plan.changes, [left.target for left in plan.unknown]) == ((), ["its recipe"])
    assert [left for each in mine.apply(plan) for left in each.left] == []
    assert shop.ledger.unsettled("soe") == []
    assert stages(shop) == stages(shop, "glance:b") == ["deprecated", "active"]
    shop.places.asked.clear()
    mine.apply(mine.plan(["soe"], now()))
    assert shop.places.asked == []


def test_what_may_be_in_use_stays_and_it_is_said_who_could_not_be_asked(shop: Shop) -> None:
    first, _ = shop.release(A), shop.release(A)
    retired(shop, first, A)
    clouds = FakeClouds(shop, blind=CloudUnreachable("admin does not answer"))
    mine = sweep(shop, clouds)
    plan = mine.plan(["soe"], now())
    assert [each.change.blocked for each in plan.changes] == [
        "it may be in use: not everybody who may know could be asked"
    ]
    assert [(str(left.ref), left.target) for left in plan.unknown] == [("soe", "what uses it, asked as admin")]
    mine.apply(plan)
    assert stages(shop) == ["active", "obsolete"]
    clouds.blind, clouds.used = None, {image_id(shop, first): "2 servers"}
    plan = mine.plan(["soe"], now())
    assert [each.change.blocked for each in plan.changes] == ["it is in use: 2 servers"]
    mine.apply(plan)
    assert stages(shop) == ["active", "obsolete"]
    assert clouds.asked == [[image_id(shop, first)]] * 2


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"tags": ("a", "keep")}, "it has the tag keep"),
        ({"protected": True}, "it is protected"),
        ({"visibility": "shared", "members": ("theirs",)}, "it is shared with other projects"),
    ],
    ids=str,
)
def test_what_a_cloud_says_of_an_image_keeps_it(shop: Shop, said: dict[str, Any], words: str) -> None:
    first, _ = shop.release(A), shop.release(A)
    retired(shop, first, A)
    mine = sweep(shop, FakeClouds(shop, said=said), exclude={"tags": ["keep"]})
    plan = mine.plan(["soe"], now())
    assert [each.change.blocked for each in plan.changes] == [words]
    mine.apply(plan)
    assert stages(shop) == ["active", "obsolete"]


def test_what_another_cloud_says_of_an_image_counts_for_nothing(shop: Shop) -> None:
    """Images have the same ids there."""
    first, _ = shop.release(A, "glance:b"), shop.release(A, "glance:b")
    retired(shop, first, A, "glance:b")
    mine = sweep(shop, FakeClouds(shop, said={"protected": True}))
    mine.apply(mine.plan(["soe"], now()))
    assert (stages(shop), stages(shop, "glance:b")) == (["active", "obsolete"], ["active"])


@pytest.mark.parametrize("blind", [A, "glance:b"])
def test_each_cloud_is_asked_with_its_own_credential(shop: Shop, blind: str) -> None:
    first, _ = shop.release(A, "glance:b"), shop.release(A, "glance:b")
    retired(shop, first, A, "glance:b")
    clouds = FakeClouds(shop, blind=CloudUnreachable("nobody answers"))
    admins = {each: "blind" if f"glance:{each}" == blind else "sees-all" for each in "ab"}
    life = RecipeLife.model_validate({"lifecycle": POLICY, "in_use_cloud": admins})
    mine = Sweep(shop.keeper(), cast("Clouds", clouds), lambda _: life)
    plan = mine.plan(["soe"], now())
    assert sorted(clouds.asked_as) == ["blind", "sees-all"]
    mine.apply(plan)
    assert {each: stages(shop, each) for each in (A, "glance:b")} == {
        A: ["active", "obsolete"] if blind == A else ["active"],
        "glance:b": ["active", "obsolete"] if blind != A else ["active"],
    }


def test_where_nobody_could_look_nothing_is_finished_either(shop: Shop) -> None:
    first, _ = shop.release(A), shop.release(A)
    retired(shop, first, A)
    mine = sweep(shop, FakeClouds(shop, unreachable={"a"}))
    shop.places.asked.clear()
    assert (mine.apply(mine.plan(["soe"], now())), shop.places.asked) == ([], [])


def test_without_somebody_to_ask_nothing_is_deleted(shop: Shop) -> None:
    first, _ = shop.release(A), shop.release(A)
    retired(shop, first, A)
    life = RecipeLife.model_validate({"lifecycle": POLICY})
    mine = Sweep(shop.keeper(), cast("Clouds", FakeClouds(shop)), lambda _: life)
    mine.apply(mine.plan(["soe"], now()))
    assert stages(shop) == ["active", "obsolete"]


def test_a_catalogue_is_the_last_to_let_a_release_go(shop: Shop) -> None:
    first, _ = shop.release(A, SHELF), shop.release(A, SHELF)
    retired(shop, first, A, SHELF)
    shop.places.stuck = {(A, release_version(first))}
    mine = sweep(shop, FakeClouds(shop))
    for _ in range(3):  # recorded as deleted in the cloud, which has it still
        mine.apply(mine.plan(["soe"], now()))
        assert (stages(shop), stages(shop, SHELF)) == (["active", "deleted"], ["active", "obsolete"])
    shop.places.stuck.clear()
    mine.apply(mine.plan(["soe"], now()))
    assert (stages(shop), stages(shop, SHELF)) == (["active"], ["active", "obsolete"])
    mine.apply(mine.plan(["soe"], now()))
    assert stages(shop, SHELF) == ["active"]


@pytest.mark.parametrize("held", [Held.REVOKED, None])
def test_what_is_needed_again_since_the_plan_is_kept(shop: Shop, held: Held | None) -> None:
    old, _, new = shop.release(A), shop.release(A), shop.release(A)
    retired(shop, old, A)
    mine = sweep(shop, FakeClouds(shop), keep_at_least=2)
    plan = mine.plan(["soe"], now())
    assert [each.change.after for each in plan.due()] == [Stage.DELETED]
    if held is not None:
        shop.ledger.hold(new, held, "leaks", "ana", "revoke")
    mine.apply(plan)
    assert stages(shop) == (["obsolete", "active", "obsolete"] if held else ["active", "deprecated"])


def test_what_somebody_touches_after_the_plan_is_left(shop: Shop) -> None:
    first, _ = shop.release(A), shop.release(A)
    retired(shop, first, A)
    mine = sweep(shop, FakeClouds(shop))
    plan = mine.plan(["soe"], now())
    kept = shop.records.release(ReleaseRef("soe", release_version(first)))
    (there,) = kept.publications
    shop.keeper().advance(kept, there, Stage.OBSOLETE, Stage.DEPRECATED, "restore", None)
    shop.keeper().advance(kept, there, Stage.DEPRECATED, Stage.OBSOLETE, "lifecycle", None)
    mine.apply(plan)
    assert stages(shop) == ["active", "obsolete"]
    mine.apply(mine.plan(["soe"], now() + timedelta(seconds=1)))
    assert stages(shop) == ["active"]


def test_what_somebody_did_after_the_plan_is_done(shop: Shop) -> None:
    """Also where our clock was ahead, so that the plan was of a day that is still to come."""
    first, _ = shop.release(A), shop.release(A)
    mine = sweep(shop, FakeClouds(shop), obsolete_after="3 days")
    plan = mine.plan(["soe"], now() + timedelta(days=4))
    assert len(plan.due()) == 1
    retired(shop, first, A)
    assert [left for each in mine.apply(plan) for left in each.left] == []
    assert stages(shop) == ["active", "obsolete"]


# -- clouds, through the publisher -------------------------------------------------------------------------------------


def orders(shop: Shop, target: str = A) -> list[Order]:
    rows = shop.ledger.standings("soe", target)
    holding = holder([standing for _, _, standing in rows])
    return [Order(release, each, standing, look(standing, holding, DISPLAY)) for release, each, standing in rows]


Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


def asked(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> tuple[Clouds, list[Mapping[str, Any]]]:
    requests: list[Mapping[str, Any]] = []

    def call(_: Clouds, __: CloudPlace, request: Mapping[str, Any], ___: Progress) -> dict[str, Any]:
        requests.append(request)
        return answer(request)

    monkeypatch.setattr(Clouds, "_call", call)
    return Clouds(cast("Any", None)), requests


def all_done(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"done": [each["image_id"] for each in request["images"]], "gone": [], "left": []}


def of_two_projects(shop: Shop) -> list[str]:
    """Four releases, of two projects in turn; their images, newest first."""
    made = [shop.release() for _ in range(4)]
    for number, each in enumerate(made):
        shop.publish(each, A, f"project{number % 2}")
    return [image_id(shop, each) for each in reversed(made)]


def test_each_project_is_asked_once_that_of_the_holder_first(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = of_two_projects(shop)
    clouds, requests = asked(monkeypatch, all_done)
    settled = clouds.settle(CloudPlace("a"), orders(shop), lambda _: None)
    found = [(each["owner"], [image["image_id"] for image in each["images"]]) for each in requests]
    assert found == [("project1", newest[0::2]), ("project0", newest[1::2])]
    assert (len(settled.done), settled.left) == (4, [])


@pytest.mark.parametrize("which", [0, 2])
def test_only_a_holder_that_is_not_shown_stops_the_other_projects(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    newest = of_two_projects(shop)
    left = {"image_id": newest[which], "code": ImageInUse.code if which else DuplicateName.code, "message": "no"}
    clouds, requests = asked(monkeypatch, lambda request: {**all_done(request), "left": [left]})
    settled = clouds.settle(CloudPlace("a"), orders(shop), lambda _: None)
    if which:
        assert len(requests) == 2
        assert [type(each.failure) for each in settled.left] == [ImageInUse]
    else:
        assert len(requests) == 1
        assert [type(each.failure) for each in settled.left] == [DuplicateName, HolderNotShown, HolderNotShown]


def test_a_holder_that_is_gone_is_not_well(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.release(A)
    new = shop.release(A)
    gone = [str(order.publication.image_id) for order in orders(shop)]
    clouds, _ = asked(monkeypatch, lambda _: {"done": [], "gone": gone, "left": []})
    settled = clouds.settle(CloudPlace("a"), orders(shop), lambda _: None)
    assert [type(left.failure) for left in settled.left] == [ImageUnknown]
    version = release_version(new)
    assert settled.left[0].failure.advice == f"imagefactory publish soe@{version} --to glance:a"
    assert len(settled.done) == 1


def test_what_nothing_uses_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"x": (0, 0), "y": (2, 0), "z": (0, 1), "both": (1, 3)}
    said = {each: {"servers": servers, "volumes": volumes} for each, (servers, volumes) in used.items()}
    clouds, _ = asked(monkeypatch, lambda _: {"used": said, "asked": ["compute", "volume"]})
    assert clouds.usage("admin", list(used), lambda _: None) == {
        "y": "2 servers",
        "z": "1 volume",
        "both": "1 server, 3 volumes",
    }


def test_with_whom_images_are_shared_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it every shared image would look like one that is not."""
    there = Survey("mine", (surveyed("x", visibility="shared", members=("theirs",)),))
    clouds, requests = asked(monkeypatch, lambda _: there.to_document())
    assert clouds.survey(CloudPlace("a"), None, lambda _: None) == there
    assert [each["members"] for each in requests] == [True]
