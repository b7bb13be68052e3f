"""Settling a place in a real Glance: the name is never without a visible image, and nothing of anybody else changes."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from imagefactory.errors import RequestInvalid
from imagefactory.hands.publisher import settle_images
from imagefactory.model.glance import (
    MANIFEST_PROPERTY,
    RELEASE_PROPERTY,
    REPLACEMENT_PROPERTY,
    GlanceImage,
    creation,
)
from imagefactory.model.recipe_targets import Visibility
from imagefactory.tools.openstack import session
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from tests.fakes.faults import Fault, LoseAnswer, Status
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import QUICK, Shop

NAME, DISPLAY_NAME = "soe", "Settled, with a comma"
ALWAYS = 100_000
CHANGES = ("PATCH", "POST", "DELETE")
Network = Callable[..., FaultProxy]
Document = dict[str, Any]


def manifest_of(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def versioned(version: str) -> str:
    return f"{DISPLAY_NAME} {version}"


@dataclass
class Rack:
    """The project's images of one name, made for a test. Versions stand for images."""

    owner: str
    ids: dict[str, str] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)

    @property
    def glance(self) -> Glance:
        return Glance(Cloud("demo-admin", QUICK))

    def offer(self, *versions: str) -> None:
        """Images that have the display name and are shown."""
        for version in versions:
            made = self._make(version, DISPLAY_NAME, {RELEASE_PROPERTY: f"{NAME}@{version}"})
            self.ids[version] = made.id

    def keep(self, *versions: str) -> None:
        """Images that are complete and hidden."""
        self.offer(*versions)
        for version in versions:
            self.change(version, {"name": versioned(version), "os_hidden": True})

    def stranger(self, cloud: str = "demo", **properties: str) -> str:
        """Somebody's image with our display name."""
        made = Glance(Cloud(cloud, QUICK)).create(creation(str(uuid4()), DISPLAY_NAME, "raw", properties, ()))
        self.glance.update(made.id, [{"op": "replace", "path": "/os_hidden", "value": False}])
        self.strangers.append(made.id)
        return made.id

    def change(self, version: str, values: dict[str, object]) -> None:
        patch = [{"op": "add", "path": f"/{key}", "value": value} for key, value in values.items()]
        self.glance.update(self.ids[version], patch)

    def image(self, version: str) -> GlanceImage:
        image = self.glance.show(self.ids[version])
        assert image is not None
        return image

    def looks(self) -> dict[str, tuple[str, bool, str, str | None]]:
        """Name, hidden, status and replacement by version, of those that are there."""
        found = {version: self.glance.show(image_id) for version, image_id in self.ids.items()}
        return {
            version: (each.name, each.hidden, each.status, each.properties.get(REPLACEMENT_PROPERTY))
            for version, each in found.items()
            if each is not None
        }

    def holders(self) -> list[str]:
        """The versions that whoever asks for the name gets."""
        listed = {each.id for each in self.glance.listed_as(DISPLAY_NAME, self.owner)}
        return sorted(version for version, image_id in self.ids.items() if image_id in listed)

    def clear(self) -> None:
        for image_id in [*self.ids.values(), *self.strangers]:
            found = self.glance.show(image_id)
            if found is not None and found.protected:
                self.glance.update(image_id, [{"op": "replace", "path": "/protected", "value": False}])
            self.glance.delete(image_id)

    def _make(self, version: str, name: str, properties: dict[str, str]) -> GlanceImage:
        glance = Glance(Cloud("demo", QUICK))
        said = {**properties, MANIFEST_PROPERTY: manifest_of(version)}
        made = glance.create(creation(str(uuid4()), name, "raw", said, ()))
        glance.upload(made.id, iter([version.encode()]))
        return glance.update(made.id, [{"op": "replace", "path": "/os_hidden", "value": False}])

    # -- what is asked of the publisher --------------------------------------------------------------------------------

    def shown(self, version: str, visibility: Visibility = "private") -> Document:
        look = {"name": DISPLAY_NAME, "hidden": False, "deactivated": False, "replacement": None}
        return {**self._wanted(version, look), "visibility": visibility}

    def retired(self, version: str, replacement: str | None, **others: object) -> Document:
        look = {
            "name": versioned(version),
            "hidden": True,
            "deactivated": others.pop("deactivated", False),
            "replacement": replacement and f"{NAME}@{replacement}",
        }
        return {**self._wanted(version, look), **others}

    def _wanted(self, version: str, look: Document) -> Document:
        return {
            "image_id": self.ids.get(version) or str(uuid4()),
            "manifest_sha256": manifest_of(version),
            "release": f"{NAME}@{version}",
            "look": look,
            "visibility": "private",
            "protected": False,
            "delete": False,
        }

    def settle(self, *images: Document, cloud: str = "demo", owner: str | None = None) -> dict[str, Any]:
        """The publisher's answer, with versions instead of ids and codes instead of errors."""
        request = {"action": "settle", "cloud": cloud, "owner": owner, "name": NAME, "images": list(images)}
        answer = settle_images(request, lambda *_: None)
        versions = {image["image_id"]: image["release"].partition("@")[2] for image in images}
        assert set(answer) == {"done", "gone", "left"}
        return {
            "done": [versions[each] for each in answer["done"]],
            "gone": [versions[each] for each in answer["gone"]],
            "left": {versions[each["image_id"]]: each["code"] for each in answer["left"]},
        }


@pytest.fixture
def rack(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rack]:
    monkeypatch.setattr(session, "PATIENCE", QUICK)
    made = Rack(shop.cloud.project_id("soe"))
    yield made
    made.clear()


@contextmanager
def observed(rack: Rack) -> Iterator[list[int]]:
    """How many visible images of the name somebody sees who lists them all the time."""
    stop, seen = threading.Event(), list[int]()
    glance = Glance(Cloud("demo-admin", QUICK))
    seen.append(len(glance.listed_as(DISPLAY_NAME, rack.owner)))

    def watch() -> None:
        while not stop.is_set():
            seen.append(len(glance.listed_as(DISPLAY_NAME, rack.owner)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        seen.append(len(glance.listed_as(DISPLAY_NAME, rack.owner)))


def changes(proxy: FaultProxy) -> list[tuple[str, str]]:
    """What changed something at Glance: method and path."""
    return [(each.method, each.path.partition("/images")[2]) for each in proxy.exchanges if each.method in CHANGES]


def well(*versions: str) -> dict[str, Any]:
    return {"done": list(versions), "gone": [], "left": {}}


V1, V2, V3, V4 = "20261119.1", "20261120.1", "20261121.1", "20261122.1"


# -- the name moves ----------------------------------------------------------------------------------------------------


def test_the_name_goes_to_the_successor(rack: Rack) -> None:
    rack.offer(V1)
    rack.keep(V2)
    with observed(rack) as seen:
        assert rack.settle(rack.shown(V2), rack.retired(V1, V2)) == well(V2, V1)
    assert rack.looks() == {
        V1: (versioned(V1), True, "active", f"{NAME}@{V2}"),
        V2: (DISPLAY_NAME, False, "active", None),
    }
    assert (seen[0], seen[-1]) == (1, 1)
    assert set(seen) <= {1, 2}, seen
    assert len(seen) > 3


def test_what_is_hidden_comes_after_what_is_shown_and_the_last_are_deletions(rack: Rack, network: Network) -> None:
    rack.offer(V3)
    rack.keep(V1, V2, V4)
    # Whatever the order in which they come.
    wanted = [
        rack.retired(V1, V4, deactivated=True, delete=True),
        rack.retired(V2, V4, deactivated=True),
        rack.retired(V3, V4),
        rack.shown(V4),
    ]
    proxy = network()
    assert rack.settle(*wanted) == well(V1, V2, V3, V4)
    first, second, third, fourth = (f"/{rack.ids[each]}" for each in (V1, V2, V3, V4))
    assert changes(proxy) == [
        ("PATCH", fourth),
        ("PATCH", first),
        ("PATCH", second),
        ("PATCH", third),
        ("POST", f"{first}/actions/deactivate"),
        ("POST", f"{second}/actions/deactivate"),
        ("DELETE", first),
    ]
    assert sorted(rack.looks()) == [V2, V3, V4]


def test_a_second_run_changes_nothing(rack: Rack, network: Network) -> None:
    rack.offer(V2)
    rack.keep(V1, V3)
    wanted = [rack.shown(V3), rack.retired(V2, V3), rack.retired(V1, V3, deactivated=True)]
    assert rack.settle(*wanted) == well(V3, V2, V1)
    before = [rack.image(version) for version in (V1, V2, V3)]
    proxy = network()
    assert rack.settle(*wanted) == well(V3, V2, V1)
    assert changes(proxy) == []
    assert [rack.image(version) for version in (V1, V2, V3)] == before


def test_a_rollback_to_an_image_that_was_deactivated(rack: Rack) -> None:
    rack.offer(V1, V2)
    rack.settle(rack.shown(V2), rack.retired(V1, V2, deactivated=True))
    assert rack.image(V1).status == "deactivated"
    with observed(rack) as seen:
        assert rack.settle(rack.shown(V1), rack.retired(V2, V1)) == well(V1, V2)
    assert rack.looks() == {
        V1: (DISPLAY_NAME, False, "active", None),
        V2: (versioned(V2), True, "active", f"{NAME}@{V1}"),
    }
    assert set(seen) <= {1, 2}, seen


def test_a_release_that_is_revoked_is_deactivated_when_its_predecessor_has_the_name(rack: Rack) -> None:
    rack.offer(V2)
    rack.keep(V1)
    with observed(rack) as seen:
        assert rack.settle(rack.shown(V1), rack.retired(V2, V1, deactivated=True)) == well(V1, V2)
    assert rack.looks()[V2] == (versioned(V2), True, "deactivated", f"{NAME}@{V1}")
    assert set(seen) <= {1, 2}, seen


def test_a_release_that_is_revoked_and_has_no_predecessor(rack: Rack) -> None:
    rack.offer(V1)
    assert rack.settle(rack.retired(V1, None, deactivated=True)) == well(V1)
    assert rack.looks() == {V1: (versioned(V1), True, "deactivated", None)}


def test_an_obsolete_release_becomes_deprecated_again(rack: Rack) -> None:
    rack.offer(V1, V2)
    rack.settle(rack.shown(V2), rack.retired(V1, V2, deactivated=True))
    assert rack.settle(rack.shown(V2), rack.retired(V1, V2)) == well(V2, V1)
    assert rack.looks()[V1] == (versioned(V1), True, "active", f"{NAME}@{V2}")


def test_several_images_have_the_name_already(rack: Rack) -> None:
    rack.offer(V1, V2, V3, V4)
    with observed(rack) as seen:
        assert rack.settle(rack.shown(V4), *(rack.retired(each, V4) for each in (V3, V2, V1))) == well(V4, V3, V2, V1)
    assert rack.holders() == [V4]
    assert seen == sorted(seen, reverse=True), "none is shown that was not"
    assert seen[-1] == 1


def test_visibility_is_given_with_the_name(rack: Rack, network: Network) -> None:
    rack.keep(V1)
    proxy = network()
    assert rack.settle(rack.shown(V1, "community")) == well(V1)
    assert (rack.image(V1).visibility, len(changes(proxy))) == ("community", 1)
    assert rack.settle(rack.retired(V1, None)) == well(V1)
    assert rack.image(V1).visibility == "community", "who knows its id finds it"


def test_an_administrator_settles_for_another_project(rack: Rack) -> None:
    rack.offer(V1)
    rack.keep(V2)
    wanted = [rack.shown(V2), rack.retired(V1, V2)]
    assert rack.settle(*wanted, cloud="demo-admin")["left"] == {V2: "image-of-another-release", V1: "holder-not-shown"}
    assert rack.settle(*wanted, cloud="demo-admin", owner=rack.owner) == well(V2, V1)
    assert rack.holders() == [V2]


# -- a death between any two requests ----------------------------------------------------------------------------------


class Died(BaseException):
    """Nothing catches a death."""


@contextmanager
def death(monkeypatch: pytest.MonkeyPatch, cut: int, *, answered: bool) -> Iterator[list[str]]:
    """Whoever makes more than `cut` changes dies, before the next one or, if it is `answered`, right after it."""
    made, real = list[str](), Cloud.request

    def request(self: Cloud, service: session.Service, method: str, path: str, **options: Any) -> session.Answer:  # noqa: ANN401
        if method not in CHANGES:
            return real(self, service, method, path, **options)
        if len(made) == cut and not answered:
            raise Died
        answer = real(self, service, method, path, **options)
        made.append(method)
        if len(made) > cut:
            raise Died
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Cloud, "request", request)
        yield made


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_whatever_was_cut_off_is_finished_by_the_next_run(
    rack: Rack, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    rack.offer(V3)
    rack.keep(V1, V2, V4)
    forth = [rack.shown(V4), rack.retired(V3, V4, deactivated=True), rack.retired(V2, V4)]
    back = [rack.shown(V3), rack.retired(V4, V3), rack.retired(V2, V3, deactivated=True)]
    rack.settle(*back)
    deaths = 0
    with observed(rack) as seen:
        for cut in range(6):
            for wanted, holder in ((forth, V4), (back, V3)):
                with death(monkeypatch, cut, answered=answered), suppress(Died):
                    rack.settle(*wanted)
                    deaths -= 1
                deaths += 1
                assert rack.settle(*wanted)["left"] == {}
                assert rack.holders() == [holder]
    assert deaths > 6
    assert set(seen) <= {1, 2}
    assert rack.looks()[V1] == (versioned(V1), True, "active", None)


@pytest.mark.parametrize("method", CHANGES)
def test_an_answer_that_is_lost(rack: Rack, network: Network, method: str) -> None:
    rack.offer(V2)
    rack.keep(V1, V3)
    proxy = network(Fault(method, "/images/", LoseAnswer()))
    wanted = [rack.shown(V3), rack.retired(V2, V3, deactivated=True), rack.retired(V1, V3, delete=True)]
    assert rack.settle(*wanted) == well(V3, V2, V1)
    assert (rack.holders(), proxy.unused, sorted(rack.looks())) == ([V3], [], [V2, V3])


# -- what goes wrong with one stops no other, but for the one that is to be shown --------------------------------------


def test_images_that_are_gone(rack: Rack) -> None:
    rack.offer(V2)
    rack.keep(V3)
    gone = rack.retired(V1, V3, deactivated=True, delete=True)
    assert rack.settle(rack.shown(V3), gone, rack.retired(V2, V3)) == {"done": [V3, V2], "gone": [V1], "left": {}}
    assert rack.holders() == [V3]


def test_nobody_gives_up_the_name_while_the_one_that_is_to_have_it_is_gone(rack: Rack, network: Network) -> None:
    rack.offer(V1)
    before, proxy = rack.image(V1), network()
    answer = rack.settle(rack.shown(V2), rack.retired(V1, V2))
    assert answer == {"done": [], "gone": [V2], "left": {V1: "holder-not-shown"}}
    assert (rack.image(V1), changes(proxy)) == (before, [])


def test_what_was_revoked_is_deactivated_even_if_nobody_else_can_have_the_name(rack: Rack, network: Network) -> None:
    rack.offer(V1)
    proxy = network()
    answer = rack.settle(rack.shown(V2), rack.retired(V1, V2, deactivated=True))
    assert answer == {"done": [], "gone": [V2], "left": {V1: "holder-not-shown"}}
    assert rack.looks() == {V1: (DISPLAY_NAME, False, "deactivated", None)}
    assert changes(proxy) == [("POST", f"/{rack.ids[V1]}/actions/deactivate")]


def test_nobody_gives_up_the_name_while_the_one_that_is_to_have_it_is_refused(rack: Rack, network: Network) -> None:
    rack.offer(V1)
    rack.keep(V2)
    proxy = network(Fault("PATCH", rack.ids[V2], Status(403)))
    answer = rack.settle(rack.shown(V2), rack.retired(V1, V2))
    assert answer["left"] == {V2: "cloud-forbidden", V1: "holder-not-shown"}
    assert changes(proxy) == [("PATCH", f"/{rack.ids[V2]}")]
    assert rack.holders() == [V1]
    assert rack.settle(rack.shown(V2), rack.retired(V1, V2)) == well(V2, V1)


def test_an_image_without_data_is_not_shown(rack: Rack) -> None:
    rack.offer(V1)
    said = {RELEASE_PROPERTY: f"{NAME}@{V2}", MANIFEST_PROPERTY: manifest_of(V2)}
    rack.ids[V2] = Glance(Cloud("demo", QUICK)).create(creation(str(uuid4()), versioned(V2), "raw", said, ())).id
    assert rack.settle(rack.shown(V2), rack.retired(V1, V2))["left"] == {V2: "image-not-active", V1: "holder-not-shown"}
    assert (rack.holders(), rack.image(V2).hidden) == ([V1], True)


def test_one_that_is_refused_stops_no_other(rack: Rack, network: Network) -> None:
    rack.offer(V1, V2, V3)
    network(Fault("PATCH", rack.ids[V2], Status(403)))
    wanted = [rack.shown(V3), rack.retired(V2, V3, deactivated=True, delete=True), rack.retired(V1, V3)]
    assert rack.settle(*wanted) == {"done": [V3, V1], "gone": [], "left": {V2: "cloud-forbidden"}}
    assert (rack.holders(), rack.image(V2).status) == ([V2, V3], "active")


def test_a_cloud_that_does_not_answer_is_not_asked_for_ever(rack: Rack, network: Network) -> None:
    rack.keep(V1)
    proxy = network(Fault("GET", "/images/", Status(500), times=ALWAYS))
    many = [rack.retired(f"20261101.{number}", None) for number in range(1, 20)]
    answer = rack.settle(*many, rack.retired(V1, None))
    assert set(answer["left"].values()) == {"cloud-unreachable"}
    assert len(answer["left"]) == 20
    assert len([each for each in proxy.exchanges if "/images/" in each.path]) == 3


# -- deletion ----------------------------------------------------------------------------------------------------------


def test_an_image_in_use_is_hidden_and_tried_again(rack: Rack, network: Network) -> None:
    rack.offer(V1, V2)
    network(Fault("DELETE", rack.ids[V1], Status(409)))
    wanted = [rack.shown(V2), rack.retired(V1, V2, deactivated=True, delete=True)]
    assert rack.settle(*wanted) == {"done": [V2], "gone": [], "left": {V1: "image-in-use"}}
    assert rack.looks()[V1] == (versioned(V1), True, "deactivated", f"{NAME}@{V2}")
    assert rack.settle(*wanted) == well(V2, V1)
    assert rack.settle(*wanted) == {"done": [V2], "gone": [V1], "left": {}}


@pytest.mark.parametrize(("ours", "left"), [(True, {}), (False, {V1: "image-protected"})])
def test_only_our_own_protection_is_lifted(rack: Rack, ours: bool, left: dict[str, str]) -> None:
    rack.offer(V1, V2)
    rack.change(V1, {"protected": True})
    wanted = [rack.shown(V2), rack.retired(V1, V2, deactivated=True, delete=True, protected=ours)]
    assert rack.settle(*wanted)["left"] == left
    assert (V1 in rack.looks()) is not ours
    if not ours:
        assert rack.image(V1).protected


def test_nothing_is_deleted_that_could_not_be_deactivated(rack: Rack, network: Network) -> None:
    rack.offer(V1)
    network(Fault("POST", "/actions/deactivate", Status(403)))
    answer = rack.settle(rack.retired(V1, None, deactivated=True, delete=True))
    assert (answer["left"], rack.image(V1).status) == ({V1: "cloud-forbidden"}, "active")


# -- images of others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("properties", [{}, {RELEASE_PROPERTY: "other@20261122.1"}], ids=["stranger", "other name"])
def test_a_name_that_somebody_else_uses_is_not_taken(rack: Rack, network: Network, properties: dict[str, str]) -> None:
    rack.offer(V1)
    rack.keep(V2)
    stranger = rack.glance.show(rack.stranger(**properties))
    assert stranger is not None
    proxy = network()
    answer = rack.settle(rack.shown(V2), rack.retired(V1, V2))
    assert answer["left"] == {V2: "duplicate-name", V1: "holder-not-shown"}
    assert changes(proxy) == []
    assert rack.glance.show(stranger.id) == stranger
    # Who has it already keeps it, and the others go on.
    assert rack.settle(rack.shown(V1), rack.retired(V2, V1)) == well(V1, V2)
    assert rack.glance.show(stranger.id) == stranger


def test_the_same_name_in_another_project_is_their_business(rack: Rack) -> None:
    rack.keep(V1)
    theirs = rack.glance.show(rack.stranger("demo-tenant"))
    assert rack.settle(rack.shown(V1)) == well(V1)
    assert theirs is not None
    assert rack.glance.show(theirs.id) == theirs


def test_somebody_elses_hidden_image_is_in_nobodys_way(rack: Rack) -> None:
    rack.keep(V1)
    stranger = rack.stranger()
    rack.glance.update(stranger, [{"op": "replace", "path": "/os_hidden", "value": True}])
    assert rack.settle(rack.shown(V1)) == well(V1)


@pytest.mark.parametrize("whose", ["demo", "demo-tenant"])
def test_an_image_that_is_not_the_one_in_the_records_is_never_touched(rack: Rack, network: Network, whose: str) -> None:
    """Of no release, or of another project, although it says that it is ours."""
    properties = {} if whose == "demo" else {MANIFEST_PROPERTY: manifest_of(V1), RELEASE_PROPERTY: f"{NAME}@{V1}"}
    theirs = rack.glance.show(rack.stranger(whose, **properties))
    assert theirs is not None
    rack.keep(V2)
    proxy = network()
    as_ours = {**rack.retired(V1, V2, deactivated=True, delete=True), "image_id": theirs.id}
    answer = rack.settle(as_ours, rack.retired(V2, None), cloud="demo")
    # The project does not even see the images of another one.
    assert answer == (
        {"done": [V2], "gone": [], "left": {V1: "image-of-another-release"}}
        if whose == "demo"
        else {"done": [V2], "gone": [V1], "left": {}}
    )
    answer = rack.settle(as_ours, cloud="demo-admin", owner=rack.owner)
    assert answer["left"] == {V1: "image-of-another-release"}
    assert changes(proxy) == []
    assert rack.glance.show(theirs.id) == theirs


# -- requests ----------------------------------------------------------------------------------------------------------


def altered(images: Sequence[Document], **values: object) -> list[Document]:
    return [{**images[0], **values}, *images[1:]]


def test_what_makes_no_sense_is_refused_before_anything_is_asked(rack: Rack, network: Network) -> None:
    rack.ids = {V1: str(uuid4()), V2: str(uuid4())}
    shown, retired = rack.shown(V2), rack.retired(V1, V2)
    proxy = network()
    for images in (
        [shown, rack.shown(V1)],
        [retired, retired],
        altered([shown], delete=True),
        altered([retired], release="other@20261122.1"),
        altered([retired], image_id="../x"),
        altered([retired], manifest_sha256="0"),
        altered([retired], look={**retired["look"], "name": "a\nb"}),
        altered([retired], look={**retired["look"], "replacement": "soe"}),
        altered([shown], look={**shown["look"], "deactivated": True}),
        altered([retired], surprise=1),
    ):
        with pytest.raises(RequestInvalid):
            rack.settle(*images)
    assert proxy.exchanges == []
    rack.ids = {}
