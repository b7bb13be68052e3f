"""How releases come and go in real clouds, by whole commands: who has the name, who had it, who is retired, and when.

Nova and Cinder are fakes that ask the real Keystone; the clock is moved by making what the records say older.
"""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from ruamel.yaml import YAML

from imagefactory.cli.app import run
from imagefactory.factory import keeping
from imagefactory.model.glance import RELEASE_PROPERTY, GlanceImage
from imagefactory.model.recipe_lifecycle import LifecyclePolicy, RecipeLife, Window
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from tests.database import records_at
from tests.fakes import traces
from tests.fakes.cinder import FakeCinder, FakeVolume
from tests.fakes.faults import Fault, Status
from tests.fakes.host import RECIPE, FakeHost, begin_catalogue, make_keys
from tests.fakes.nova import FakeNova, FakeServer
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import QUICK, Desk, Shop, keystone_of, until
from tests.openstack.clouds import write_clouds
from tests.openstack.fixtures import Cloud as RealCloud

NAME = "fake-debian-12"
LIFE = """\
channels: [candidate, stable]
requires_approval: 1
in_use_cloud: demo-admin
lifecycle:
  keep_at_least: 1
  obsolete_after: 30 days
  delete_after: 60 days
  exclude: {tags: [keep]}
"""
REPLACEMENT = "imagefactory_replacement"
MOST_VISIBLE = 2  # while one gives up the name to another
KILLS = 10  # of one round
REQUESTS = {"publish": 9, "lifecycle": 5}  # that a command makes, at least; any other makes four
Three = tuple[FakeHost, tuple[Release, ...]]


@dataclass(frozen=True)
class Look:
    """What people see of an image."""

    name: str
    hidden: bool
    status: str = "active"
    instead: str | None = None


@dataclass(frozen=True)
class Street(Desk):
    """A desk with three releases of one name, first to last, and clouds behind networks that can be bad."""

    releases: tuple[Release, ...]
    networks: dict[str, FaultProxy]
    nova: FakeNova
    cinder: FakeCinder
    account: str = "anna"

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "SUDO_USER": self.account}

    @property
    def other(self) -> "Street":
        """The same desk, at which somebody else sits."""
        return replace(self, account="bert")

    def run(self, *argv: str) -> tuple[int, str, str]:
        """In this process, which saves a second each time."""
        out, err = StringIO(), StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            code = run([*argv])
        return code, out.getvalue(), err.getvalue()

    # -- saying --------------------------------------------------------------------------------------------------------

    def version(self, number: int) -> str:
        return str(release_version(self.releases[number]))

    def ref(self, number: int) -> str:
        return f"{NAME}@{self.version(number)}"

    def publish(self, number: int, *more: str, to: tuple[str, ...] = ("demo",), status: int = 0) -> dict[str, Any]:
        places = [word for cloud in to for word in ("--to", f"glance:{cloud}")]
        return self.json("publish", self.ref(number), *places, *more, status=status)

    def make_stable(self, *numbers: int) -> None:
        """Without the words: how they come to `stable` is a test of its own."""
        self._write("UPDATE releases SET channel = 'stable' WHERE version_number = ? AND version_day = ?", numbers)

    def offer(self, *numbers: int, to: tuple[str, ...] = ("demo",)) -> None:
        """Releases on `stable` and published, one after the other."""
        self.make_stable(*numbers)
        for number in numbers:
            self.publish(number, to=to)

    def days_go_by(self, days: int) -> None:
        with records_at(self.shop.host.home / "imagefactory.db") as database:
            database.execute("UPDATE publications SET since = datetime(since, ?) || '.000000'", (f"-{days} days",))

    def _write(self, statement: str, numbers: tuple[int, ...]) -> None:
        with records_at(self.shop.host.home / "imagefactory.db") as database:
            for number in numbers:
                version = release_version(self.releases[number])
                changed = database.execute(statement, (version.number, version.day))
                assert changed.rowcount == 1

    # -- looking -------------------------------------------------------------------------------------------------------

    def images(self, cloud: str = "demo") -> list[GlanceImage]:
        """Every image of ours there."""
        found = Glance(Cloud(f"{cloud}-admin", QUICK)).search(visibility="all")
        return [image for image in found if RELEASE_PROPERTY in image.properties]

    def image(self, number: int, cloud: str = "demo") -> GlanceImage:
        (image,) = (each for each in self.images(cloud) if each.properties[RELEASE_PROPERTY] == self.ref(number))
        return image

    def looks(self, cloud: str = "demo") -> dict[int, Look]:
        """What there is of each release."""
        numbers = {self.ref(number): number for number in range(len(self.releases))}
        return {
            numbers[each.properties[RELEASE_PROPERTY]]: Look(
                each.name, each.hidden, each.status, each.properties.get(REPLACEMENT)
            )
            for each in self.images(cloud)
        }

    def visible(self) -> list[int]:
        """The releases of which there is a visible image."""
        return sorted(number for number, look in self.looks().items() if not look.hidden)

    def old(self, number: int, instead: int | None = None, status: str = "active") -> Look:
        """What a release looks like that has not the name."""
        there = None if instead is None else self.ref(instead)
        return Look(f"{NAME} {self.version(number)}", True, status, there)

    def changes(self, *argv: str) -> list[dict[str, Any]]:
        """What the plan says."""
        found = self.json("lifecycle", "plan", *argv)["changes"]
        assert isinstance(found, list)
        return found


HOLDER = Look(NAME, hidden=False)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Three:
    """A host with three releases that are published nowhere."""
    root = tmp_path_factory.mktemp("street")
    host = FakeHost.make(root / "host", make_keys(root / "keys"))
    host.recipe_file.write_text(RECIPE + LIFE)
    begin_catalogue(host.settings, root / "stick", b"a passphrase for tests")
    made = []
    for number in range(3):
        host.say("salt", str(number))
        host.offer({"bash": f"5.2.15-{number}", "openssl": "3.0.17-1"}, in_release=f"release {number}")
        made.append(host.build(publish=False).release)
    assert len({release_version(each) for each in made}) == 3
    return host, tuple(made)


@contextmanager
def compute_of(cloud: RealCloud) -> Iterator[tuple[FakeNova, FakeCinder]]:
    identify = keystone_of(cloud)
    with FakeNova(identify) as nova, FakeCinder(identify) as cinder:
        yield nova, cinder


def clouds_with(path: Path, clouds_yaml: Path, changes: dict[str, dict[str, str]]) -> Path:
    """Another clouds.yaml, with more about some clouds."""
    clouds = YAML(typ="safe").load(clouds_yaml)["clouds"]
    write_clouds(path, {name: entry | changes.get(name, {}) for name, entry in clouds.items()})
    return path


@contextmanager
def opened(three: Three, clouds: dict[str, RealCloud], patch: pytest.MonkeyPatch, directory: Path) -> Iterator[Street]:
    """The host and these clouds, and all as before afterwards."""
    host, releases = three
    *_, last = clouds.values()
    database = host.home / "imagefactory.db"
    before = database.read_bytes()
    with ExitStack() as stack:
        networks = {name: stack.enter_context(FaultProxy(cloud.image_url)) for name, cloud in clouds.items()}
        nova, cinder = stack.enter_context(compute_of(clouds["demo"]))
        asked = {"compute_endpoint_override": nova.endpoint, "block_storage_endpoint_override": cinder.endpoint}
        changes = {name: {"image_endpoint_override": proxy.url} for name, proxy in networks.items()}
        path = clouds_with(directory / "clouds.yaml", last.clouds_yaml, changes | {"demo-admin": asked})
        patch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
        street = Street(Shop(host, releases[0], clouds["demo"]), releases, networks, nova, cinder)
        try:
            yield street
        finally:
            for name in clouds:
                forget(street, name)
            for file in host.home.glob("imagefactory.db*"):
                file.unlink()
            database.write_bytes(before)


def forget(street: Street, cloud: str) -> None:
    admin = Glance(Cloud(f"{cloud}-admin", QUICK))
    for image in street.images(cloud):
        if image.protected:
            admin.update(image.id, [{"op": "replace", "path": "/protected", "value": False}])
        admin.delete(image.id)


@pytest.fixture
def street(three: Three, cloud: RealCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Street]:
    with opened(three, {"demo": cloud}, monkeypatch, tmp_path) as made:
        yield made


@pytest.fixture
def streets(
    three: Three,
    cloud: RealCloud,
    second_cloud: RealCloud,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Street]:
    with opened(three, {"demo": cloud, "second": second_cloud}, monkeypatch, tmp_path) as made:
        yield made


# -- who has the name --------------------------------------------------------------------------------------------------


def test_from_candidate_to_stable_with_the_word_of_somebody_else(street: Street) -> None:
    street.publish(0)
    assert street.looks() == {0: street.old(0)}
    assert street.json("promote", street.ref(0), status=1)["error"]["code"] == "approval-missing"
    street.json("approve", street.ref(0))
    assert street.json("promote", street.ref(0), status=1)["error"]["code"] == "approval-missing", "one's own"
    street.other.json("approve", street.ref(0))
    street.json("promote", street.ref(0))
    assert street.looks() == {0: HOLDER}
    before = street.image(0)

    street.publish(1)
    assert street.looks() == {0: HOLDER, 1: street.old(1)}
    street.other.json("approve", street.ref(1))
    done = street.json("promote", street.ref(1))
    assert [each["release"] for each in done["done"]] == [street.ref(1), street.ref(0)]
    assert street.looks() == {0: street.old(0, instead=1), 1: HOLDER}
    assert street.image(0).id == before.id
    assert street.json("promote", street.ref(1), status=1)["error"]["code"] == "nothing-to-change"


def test_a_newer_one_takes_the_name_and_a_late_one_does_not_and_enough_stay(street: Street) -> None:
    street.offer(0, 2)
    assert street.looks() == {0: street.old(0, instead=2), 2: HOLDER}
    street.offer(1)
    assert street.looks() == {0: street.old(0, instead=2), 1: street.old(1, instead=2), 2: HOLDER}
    before = [street.image(number) for number in range(3)]
    street.publish(2)
    assert [street.image(number) for number in range(3)] == before
    street.json("rollback", NAME, "--reason", "bad")
    for _ in range(2):
        street.days_go_by(400)
        street.json("lifecycle", "apply")
    # The newest may not have the name now, and the one that has it is the last that may.
    assert street.looks() == {1: HOLDER, 2: street.old(2, instead=1)}


def test_rolled_back_or_deprecated_and_restored(street: Street) -> None:
    street.offer(0)
    alone = street.json("deprecate", street.ref(0), "--reason", "too old", status=1)
    assert alone["error"]["code"] == "previous-missing"
    street.offer(1)
    after, before = {0: street.old(0, instead=1), 1: HOLDER}, {0: HOLDER, 1: street.old(1, instead=0)}
    would = street.json("rollback", NAME, "--reason", "it does not boot", "--dry-run")
    assert (would["dry_run"], would["done"], street.looks()) == (True, [], after)
    street.json("rollback", NAME, "--reason", "it does not boot")
    assert street.looks() == before
    street.publish(1)
    assert street.looks() == before, "published again, and still rolled back"
    found = street.json("rollback", NAME, "--reason", "once more", status=1)
    assert found["error"]["code"] == "previous-missing"
    street.json("restore", street.ref(1))
    assert street.looks() == after
    street.json("deprecate", street.ref(1), "--reason", "not yet")
    assert street.looks() == before
    street.json("restore", street.ref(1))
    assert street.looks() == after
    assert street.json("restore", street.ref(1), status=1)["error"]["code"] == "nothing-to-change"


def test_revoked_everywhere_and_the_catalogue_says_why(street: Street) -> None:
    street.offer(0, 1)
    catalogue = street.shop.host.home / "catalogue"
    for number in range(2):
        street.json("publish", street.ref(number), "--to", f"catalogue:{catalogue}")
    street.json("revoke", street.ref(1), "--reason", "it leaks a key")
    assert street.looks() == {0: HOLDER, 1: street.old(1, instead=0, status="deactivated")}
    refused = street.json("verify", f"catalogue:{catalogue}/{street.ref(1)}", status=1)["error"]
    assert refused["code"] == "release-revoked"
    assert "it leaks a key" in refused["message"]
    assert street.publish(1, status=1)["error"]["code"] == "release-revoked"
    assert street.json("restore", street.ref(1), status=1)["error"]["code"] == "release-revoked"
    street.json("revoke", street.ref(1), "--reason", "it leaks a key")
    assert street.looks()[1].status == "deactivated"


# -- who leaves --------------------------------------------------------------------------------------------------------


def closed_now() -> RecipeLife:
    """A policy whose window is closed now, and for hours."""
    now = datetime.now(UTC)
    opens, closes = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (10, 12))
    window = Window.model_validate({"from": opens, "to": closes, "time_zone": "UTC"})
    return RecipeLife(
        lifecycle=LifecyclePolicy.model_validate({"keep_at_least": 1, "obsolete_after": "30 days", "window": window})
    )


def test_one_stage_after_the_other_when_it_is_time(street: Street) -> None:
    street.offer(0, 1)
    (planned,) = street.changes()
    assert (planned["release"], planned["after"], planned["is_due"]) == (street.ref(0), "obsolete", False)
    assert (datetime.fromisoformat(planned["due"]) - datetime.now().astimezone()).days == 29
    street.json("lifecycle", "apply")
    assert street.looks()[0] == street.old(0, instead=1)

    street.days_go_by(31)
    assert street.json("lifecycle", "apply", "--dry-run")["changes"][0]["is_due"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "policy_of", lambda _: closed_now())
        street.json("lifecycle", "apply")
        assert street.looks()[0] == street.old(0, instead=1)
        street.json("lifecycle", "apply", "--now")
    assert street.looks() == {0: street.old(0, instead=1, status="deactivated"), 1: HOLDER}
    refused = street.publish(0, status=1)["error"]
    assert (refused["code"], f"imagefactory restore {street.ref(0)}" in refused["advice"]) == ("state-conflict", True)
    assert street.looks() == {0: street.old(0, instead=1, status="deactivated"), 1: HOLDER}
    street.days_go_by(61)
    image = street.image(0)
    (planned,) = street.changes()
    assert (planned["is_due"], planned["blocked"], planned["bytes"]) == (True, None, image.size)
    street.json("lifecycle", "apply")
    assert street.looks() == {1: HOLDER}
    assert street.publish(0, status=1)["error"]["code"] == "release-deleted"
    assert street.json("lifecycle", "apply")["done"] == []
    (publication,) = street.json("releases", "show", street.ref(0))["publications"]
    assert publication["state"] == "deleted"


def test_what_is_obsolete_is_restored_and_can_have_the_name(street: Street) -> None:
    street.offer(0, 1)
    street.days_go_by(31)
    street.json("lifecycle", "apply")
    assert street.looks()[0].status == "deactivated"
    street.json("restore", street.ref(0))
    assert street.looks()[0] == street.old(0, instead=1)
    street.days_go_by(31)
    street.json("lifecycle", "apply")
    street.json("rollback", NAME, "--reason", "back to what is obsolete")
    assert street.looks() == {0: HOLDER, 1: street.old(1, instead=0)}
    shown = [street.json("releases", "show", street.ref(each))["publications"][0]["image"] for each in (0, 1)]
    assert [each["name"] for each in shown] == [street.looks()[each].name for each in (0, 1)]


def test_what_is_in_use_or_may_be_is_not_deleted(street: Street) -> None:
    street.offer(0, 1)
    street.days_go_by(31)
    street.json("lifecycle", "apply")
    street.days_go_by(61)
    image, tenant = street.image(0), street.shop.cloud.project_id("tenant")
    street.nova.servers.append(FakeServer(str(uuid4()), tenant, image.id))
    (planned,) = street.json("lifecycle", "apply")["changes"]
    assert planned["blocked"] == "it is in use: 1 server"
    street.nova.servers.clear()
    street.cinder.volumes.append(FakeVolume(str(uuid4()), tenant, {"image_id": image.id}, bootable=True))
    (planned,) = street.json("lifecycle", "apply")["changes"]
    assert planned["blocked"] == "it is in use: 1 volume"
    street.cinder.volumes.clear()
    street.nova.lists_all = "somebody else"
    (planned,) = street.json("lifecycle", "apply", status=4)["changes"]
    assert planned["blocked"].startswith("it may be in use")
    street.nova.lists_all = "admin"
    street.networks["demo"].add(Fault("GET", "/v2/images", Status(403), times=1000))
    street.json("lifecycle", "apply", status=4)
    assert street.looks() == {0: street.old(0, instead=1, status="deactivated"), 1: HOLDER}
    with up_again(street, "demo"):
        street.json("lifecycle", "apply")
    assert street.looks() == {1: HOLDER}


def test_what_is_excluded_stays_deprecated(street: Street) -> None:
    def blocked() -> list[str]:
        return [each["blocked"] for each in sorted(street.changes(), key=lambda each: str(each["release"]))]

    street.make_stable(0, 1, 2)
    street.publish(0, "--visibility", "shared", "--member", street.shop.cloud.project_id("tenant"))
    street.publish(1, "--protected")
    street.publish(2)
    street.days_go_by(31)
    assert blocked() == ["it is shared with other projects", "it is protected"]
    patch = [{"op": "replace", "path": "/tags", "value": ["keep"]}]
    Glance(Cloud("demo-admin", QUICK)).update(street.image(0).id, patch)
    assert blocked() == ["it has the tag keep", "it is protected"]
    assert street.json("lifecycle", "apply")["done"] == []
    assert street.looks() == {0: street.old(0, instead=2), 1: street.old(1, instead=2), 2: HOLDER}


# -- two clouds --------------------------------------------------------------------------------------------------------


def test_a_cloud_that_is_down_is_done_later(streets: Street) -> None:
    both = ("demo", "second")
    streets.offer(0, 1, to=both)
    down = [Fault(method, "/v2/images", Status(403), times=1000) for method in ("GET", "PATCH", "POST")]
    streets.networks["second"].add(*down)
    found = streets.json("rollback", NAME, "--reason", "bad", status=4)
    assert found["left"][0]["target"] == "glance:second"
    there, here = {0: streets.old(0, instead=1), 1: HOLDER}, {0: HOLDER, 1: streets.old(1, instead=0)}
    assert (streets.looks(), streets.looks("second")) == (here, there)
    streets.json("lifecycle", "apply", status=4)
    assert streets.looks("second") == there
    with up_again(streets, "second"):
        done = streets.json("lifecycle", "apply")
    assert {each["target"] for each in done["done"]} == {"glance:second"}
    assert (streets.looks(), streets.looks("second")) == (here, here)


def test_what_is_recorded_and_not_shown_yet_is_shown_by_whoever_comes_next(street: Street) -> None:
    street.offer(0)
    street.make_stable(1)
    street.networks["demo"].add(Fault("PATCH", "/v2/images", Status(403), times=1000))
    error = street.publish(1, status=4)["error"]
    assert (error["code"], street.ref(1) in error["message"]) == ("places-left", True)
    assert street.looks() == {0: HOLDER, 1: street.old(1)}
    with up_again(street, "demo"):
        done = street.json("lifecycle", "apply")["done"]
    assert [each["release"] for each in done] == [street.ref(1), street.ref(0)]
    assert street.looks() == {0: street.old(0, instead=1), 1: HOLDER}


@contextmanager
def up_again(street: Street, cloud: str) -> Iterator[None]:
    """A network without faults to a cloud."""
    rules = street.networks[cloud]._rules
    kept = list(rules)
    rules.clear()
    yield
    rules[:] = kept


# -- killed ------------------------------------------------------------------------------------------------------------


@dataclass
class Observer:
    """Somebody who lists a name all the time; `seen` are the numbers of visible images, whenever they change."""

    seen: list[int] = field(default_factory=list)
    looks: int = 0
    failure: Exception | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        ended = threading.Event()
        glance = Glance(Cloud("demo-admin", QUICK))
        watcher = threading.Thread(target=self._watch, args=(glance, ended))
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        if self.failure is not None:
            raise self.failure

    def _watch(self, glance: Glance, ended: threading.Event) -> None:
        try:
            while not ended.wait(0.02):
                found = glance._pages({"name": NAME, "visibility": "all", "os_hidden": "false"})
                count = sum(image.status == "active" for image in found)
                self.looks += 1
                if self.seen[-1:] != [count]:
                    self.seen.append(count)
        except Exception as error:
            self.failure = error


def publishers() -> list[str]:
    traces.reap()
    return [command for command in traces.children().values() if "imagefactory.hands.publisher" in command]


def kill_within(street: Street, dice: random.Random, argv: tuple[str, ...]) -> bool:
    """Kill a command when the cloud has got some number of requests of it, and a moment later; whether it came to
    that."""
    begun = len(street.networks["demo"].exchanges)
    wanted = dice.randrange(1, REQUESTS.get(argv[0], 4) + 1)
    pause = dice.uniform(0.0, 0.1)
    with street.start(*argv) as process:
        until(lambda: process.poll() is not None or len(street.networks["demo"].exchanges) - begun >= wanted)
        threading.Event().wait(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert until(lambda: not publishers()), publishers()
    return process.returncode == -signal.SIGKILL


def one_round(street: Street, dice: random.Random) -> None:
    """From the first release to the last, with every command killed once."""
    reason = ("--reason", "bad")
    publish = {number: ("publish", street.ref(number), "--to", "glance:demo") for number in range(3)}
    for number in range(3):
        street.other.json("approve", street.ref(number))
    killed = [
        interrupted(street, dice, publish[0], []),
        interrupted(street, dice, ("promote", street.ref(0)), [0]),
    ]
    used = street.image(0).id
    street.nova.servers.append(FakeServer(str(uuid4()), street.shop.cloud.project_id("tenant"), used))
    steps: list[tuple[tuple[str, ...], int, Callable[[], None]]] = [
        (publish[1], 0, lambda: None),
        (("promote", street.ref(1)), 1, lambda: None),
        (("rollback", NAME, *reason), 0, lambda: None),
        (("restore", street.ref(1)), 1, lambda: None),
        (publish[2], 1, lambda: None),
        (("promote", street.ref(2)), 2, lambda: None),
        (("lifecycle", "apply"), 2, lambda: street.days_go_by(31)),
        (("lifecycle", "apply"), 2, lambda: street.days_go_by(61)),
    ]
    observer = Observer()
    with observer.watching():
        for argv, holding, before in steps:
            before()
            killed.append(interrupted(street, dice, argv, [holding]))
            assert street.looks()[holding] == HOLDER, argv
    assert len(killed) == KILLS
    assert killed.count(False) <= 2, "who was faster than the signal"
    assert observer.looks > 100
    assert set(observer.seen) <= set(range(1, MOST_VISIBLE + 1)), observer.seen
    left = {image.id: image.properties[RELEASE_PROPERTY] for image in street.images()}
    assert sorted(left.values()) == [street.ref(0), street.ref(2)], "no stray, and none too few"
    assert left[used] == street.ref(0), "the one in use stays"


def interrupted(street: Street, dice: random.Random, argv: tuple[str, ...], after: list[int]) -> bool:
    """Run a command that is killed and one that finishes it; `after` are the visible releases then. Whether it came to
    be killed."""
    before = street.visible()
    killed = kill_within(street, dice, argv)
    if dice.choice([True, False]):
        street.json("lifecycle", "apply")
        assert street.visible() in (before, after), argv
    code, _, err = street.run(*argv)
    if code != 0:
        assert "[nothing-to-change]" in err or "[previous-missing]" in err, (argv, err)
        street.json("lifecycle", "apply")
    assert street.visible() == after, argv
    return killed


@pytest.mark.parametrize("turn", range(20 // KILLS))
def test_keeper_kills(street: Street, dice: random.Random, turn: int) -> None:
    killed_for_one_round(street, dice, turn)


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(200 // KILLS))
def test_keeper_kills_for_long(street: Street, dice: random.Random, turn: int) -> None:
    killed_for_one_round(street, dice, turn)


def killed_for_one_round(street: Street, dice: random.Random, turn: int) -> None:
    moments = random.Random(dice.random() + turn)  # noqa: S311 - each round has moments of its own
    with traces.adopting():
        one_round(street, moments)
