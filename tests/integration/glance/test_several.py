"""Two real clouds that share nothing: one that is slow, down or forbidden neither holds back nor undoes the other."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from imagefactory.model.glance import RELEASE_PROPERTY, GlanceImage
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from tests.fakes import traces
from tests.fakes.faults import Fault, Slow, Status
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import QUICK, Desk, until
from tests.openstack.fixtures import Cloud as RealCloud

BOTH = ("--to", "glance:demo", "--to", "glance:second")
LONG = 60.0  # seconds


@dataclass
class Two:
    """A desk and two clouds, `demo` and `second`, each behind a network that can be bad."""

    desk: Desk
    networks: dict[str, FaultProxy]

    def publish(self, *more: str, status: int = 0) -> dict[str, dict[str, object]]:
        """What came of each place."""
        document = self.desk.json("publish", self.desk.release, *BOTH, *more, status=status)
        return {each["place"]: each for each in document["places"]}

    @property
    def states(self) -> dict[str, str]:
        """Of the publications, by their places."""
        publications = self.desk.json("releases", "show", self.desk.release)["publications"]
        return {each["target"]: each["state"] for each in publications if each["target"].startswith("glance:")}

    def images(self, cloud: str) -> list[GlanceImage]:
        """Every image of ours there."""
        found = Glance(Cloud(f"{cloud}-admin", QUICK)).search(visibility="all")
        return [image for image in found if RELEASE_PROPERTY in image.properties]

    def image(self, cloud: str) -> GlanceImage:
        (image,) = self.images(cloud)
        assert (image.status, image.hidden) == ("active", False)
        return image

    def uploads(self, cloud: str) -> int:
        """How often somebody began to upload."""
        return sum(each.method == "PUT" and each.path.endswith("/file") for each in self.networks[cloud].exchanges)


@pytest.fixture
def two(desk: Desk, second_cloud: RealCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    first = desk.shop.cloud
    with ExitStack() as stack:
        networks = {
            "demo": stack.enter_context(FaultProxy(first.image_url)),
            "second": stack.enter_context(FaultProxy(second_cloud.image_url)),
        }
        endpoints = {cloud: proxy.url for cloud, proxy in networks.items()}
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(second_cloud.with_image_endpoints(endpoints)))
        made = Two(desk, networks)
        yield made
        for cloud in networks:
            for image in made.images(cloud):
                Glance(Cloud(f"{cloud}-admin", QUICK)).delete(image.id)


def publishers() -> list[str]:
    """Those that run below us. The clouds do, too."""
    traces.reap()
    return [command for command in traces.children().values() if "imagefactory.hands.publisher" in command]


def test_to_two_clouds_at_once_and_again(two: Two) -> None:
    logs = two.desk.shop.host.home / "logs"
    for log in logs.glob("publisher*"):  # of other tests
        log.unlink()
    done = two.publish()
    assert list(done) == ["glance:demo", "glance:second"]
    before = {cloud: two.image(cloud) for cloud in two.networks}
    for cloud, image in before.items():
        assert done[f"glance:{cloud}"]["target"] == f"glance:{cloud}/{image.id}"
        assert done[f"glance:{cloud}"]["verified"] is True
    assert two.states == {"glance:demo": "verified", "glance:second": "verified"}
    assert len({image.id for image in before.values()}) == 2
    two.publish()
    assert {cloud: two.image(cloud) for cloud in two.networks} == before
    assert {cloud: two.uploads(cloud) for cloud in two.networks} == {"demo": 1, "second": 1}
    assert {path.name for path in logs.glob("publisher*")} == {"publisher-demo.log", "publisher-second.log"}


def test_options_are_for_every_cloud_and_a_catalogue_is_none(two: Two) -> None:
    place = f"catalogue:{two.desk.shop.host.home}/catalogue"
    done = two.publish("--to", place, "--tag", "soe", "--visibility", "community")
    assert [each["verified"] for each in done.values()] == [True] * 3
    for cloud in two.networks:
        assert (two.image(cloud).tags, two.image(cloud).visibility) == (("soe",), "community")


def test_a_dry_run_asks_nobody_and_changes_nothing(two: Two) -> None:
    def would() -> list[object]:
        return [each["would"] for each in two.publish("--dry-run").values()]

    assert would() == ["publish", "publish"]
    assert (two.states, two.networks["demo"].exchanges) == ({}, [])
    two.desk.json("publish", two.desk.release, "--to", "glance:second")
    assert would() == ["publish", "check"]
    found = two.publish("--dry-run", "--format", "raw", status=2)
    assert {each["error"]["code"] for each in found.values()} == {"format-unsupported"}  # type: ignore[index]


def test_a_cloud_that_fails_is_no_concern_of_the_other(two: Two) -> None:
    two.networks["demo"].add(Fault("POST", "/images$", Status(403)))
    found = two.publish(status=1)
    assert found["glance:demo"]["error"]["code"] == "cloud-forbidden"  # type: ignore[index]
    assert found["glance:second"]["verified"] is True
    assert two.states == {"glance:demo": "failed", "glance:second": "verified"}
    there = two.image("second")
    two.publish()
    two.image("demo")
    assert (two.image("second"), two.uploads("second")) == (there, 1)


def test_all_failures_are_told_and_the_first_one_says_how_it_ends(two: Two) -> None:
    two.networks["second"].add(Fault("POST", "/images$", Status(403)))
    two.networks["demo"].add(Fault("POST", "/images$", Status(413)))
    code, _, said = two.desk.run("publish", two.desk.release, *BOTH)
    assert code == 1
    end = said[said.index("error: ") :]
    assert "2 of 2 places failed; glance:demo: " in end.splitlines()[0]
    assert end.splitlines()[0].endswith("[cloud-quota]")
    assert ("| glance:demo: " in end, "| glance:second: " in end) == (True, True)
    assert "[cloud-forbidden]" in end
    for cloud in two.networks:
        assert f"! publish glance:{cloud}: " in said


def test_a_slow_cloud_holds_nothing_back_and_a_kill_costs_only_what_was_not_done(two: Two) -> None:
    two.networks["second"].add(Fault("PUT", "/file$", Slow(2_000, "upload")))
    with traces.adopting():
        with two.desk.start("publish", two.desk.release, *BOTH) as process:
            assert until(lambda: two.states.get("glance:demo") == "verified")
            assert until(lambda: not two.images("demo")[0].hidden)
            assert until(lambda: two.uploads("second") == 1)
            assert process.poll() is None, "the slow one is not done"
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=LONG)
        assert until(lambda: not publishers()), publishers()
    assert two.states == {"glance:demo": "verified", "glance:second": "intended"}
    assert all(image.hidden for image in two.images("second"))
    there = two.image("demo")
    done = two.publish()
    assert done["glance:second"]["target"] == f"glance:second/{two.image('second').id}"
    assert (two.image("demo"), two.uploads("demo")) == (there, 1)


def test_who_stops_it_stops_all(two: Two) -> None:
    for proxy in two.networks.values():
        proxy.add(Fault("PUT", "/file$", Slow(2_000, "upload")))
    with traces.adopting():
        with two.desk.start("publish", two.desk.release, *BOTH, "--json") as process:
            assert until(lambda: all(two.uploads(cloud) for cloud in two.networks))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LONG)
        assert until(lambda: not publishers()), publishers()
    assert process.returncode == 130, err
    assert '"interrupted"' in out
    assert "Traceback" not in err
    assert two.states == {"glance:demo": "intended", "glance:second": "intended"}
    two.publish()
    for cloud in two.networks:
        two.image(cloud)


def test_somebody_else_who_works_on_one_place_leaves_the_other_free(two: Two) -> None:
    two.networks["second"].add(Fault("PUT", "/file$", Slow(2_000, "upload")))
    with two.desk.start("publish", two.desk.release, "--to", "glance:second") as process:
        assert until(lambda: two.uploads("second") == 1)
        found = two.publish(status=3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG)
    assert found["glance:second"]["error"]["code"] == "busy"  # type: ignore[index]
    assert found["glance:demo"]["verified"] is True


def test_a_build_publishes_to_all_its_targets_and_again_only_where_it_failed(two: Two) -> None:
    recipe = two.desk.shop.host.recipe_file
    before = recipe.read_text()
    recipe.write_text(before + "publish: [{cloud: demo}, {cloud: second, visibility: community}]\n")
    two.networks["second"].add(Fault("POST", "/images$", Status(403)))
    try:
        two.desk.json("policy", "approve", "--add", str(recipe))
        found = {each["place"]: each for each in two.desk.json("build", str(recipe), status=1)["places"]}
        assert found["glance:demo"]["verified"] is True
        assert found["glance:second"]["error"]["code"] == "cloud-forbidden"
        planned = two.desk.json("plan", str(recipe))["actions"]
        assert [each["subject"] for each in planned if each["run"]] == ["glance:second"]
        published = two.desk.json("build", str(recipe))["published"]
        assert sorted(published) == sorted(f"glance:{cloud}/{two.image(cloud).id}" for cloud in two.networks)
        assert {cloud: two.uploads(cloud) for cloud in two.networks} == {"demo": 1, "second": 1}
        assert two.desk.json("build", str(recipe))["unchanged"]
    finally:
        recipe.write_text(before)
