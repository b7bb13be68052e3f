"""The command line and a real cloud: as a user publishes, verifies and looks; and killed in the middle of it."""

import signal
from collections.abc import Callable

import pytest

from imagefactory.model.glance import GlanceImage
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from tests.fakes.faults import Fault, Slow
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import QUICK, Desk, until


def test_publish_show_verify(desk: Desk) -> None:
    done = desk.json("publish", desk.release, "--to", "glance:demo")
    image = desk.shop.only_image()
    assert (done["release"], done["target"]) == (desk.release, f"glance:demo/{image.id}")
    (publication,) = desk.json("releases", "show", desk.release)["publications"]
    assert (publication["target"], publication["state"]) == ("glance:demo", "verified")
    shown = publication["image"]
    assert (shown["id"], shown["sha512"], shown["visibility"]) == (image.id, image.hash_value, "private")
    assert shown["certificate"] == image.properties["img_signature_certificate_uuid"]
    assert publication["verified"]
    text = desk.run("releases", "show", desk.release)[1]
    assert image.id in text
    assert shown["certificate"] in text
    proof = desk.json("verify", "glance:demo/fake-debian-12", "--manifest", str(desk.shop.manifest))["verified"]
    assert proof["files"]
    assert proof["target"] == done["target"]
    (again,) = desk.json("releases", "show", desk.release)["publications"]
    assert again["verified"] > publication["verified"]
    desk.json("verify", done["target"], "--manifest", str(desk.shop.manifest), "--metadata-only")
    assert desk.json("releases", "show", desk.release)["publications"] == [again]


def test_a_second_time_changes_nothing_and_goes_on_as_before(desk: Desk) -> None:
    argv = ("publish", desk.release, "--to", "glance:demo")
    tenant = desk.shop.cloud.project_id("tenant")
    first = desk.json(*argv, "--visibility", "shared", "--member", tenant)
    image = desk.shop.only_image()
    assert desk.json(*argv)["target"] == first["target"]
    assert desk.shop.only_image() == image
    assert image.visibility == "shared"
    desk.json(*argv, "--visibility", "private")
    assert desk.shop.only_image().visibility == "private"


def test_everything_that_a_recipe_can_say_can_be_said_here(desk: Desk) -> None:
    argv = ("publish", desk.release, "--to", "glance:demo")
    desk.json(*argv, "--tag", "soe", "--tag", "gpu", "--protected")
    image = desk.shop.only_image()
    assert (set(image.tags), image.protected) == ({"soe", "gpu"}, True)
    desk.json(*argv, "--unprotected")
    image = desk.shop.only_image()
    assert (set(image.tags), image.protected) == ({"soe", "gpu"}, False)
    manifest = ("--manifest", str(desk.shop.manifest))
    empty = ("--catalogue", str(desk.shop.host.root / "nowhere"))
    assert desk.json("properties", "show", f"glance:demo/{image.id}", *manifest)["properties"]
    found = desk.json("properties", "check", f"glance:demo/{image.id}", *empty, status=1)
    assert found["error"]["code"] == "catalogue-untrusted"
    assert desk.json("properties", "show", desk.release, *empty, status=2)["error"]["code"] == "usage"


def test_the_recipe_says_where_it_goes(desk: Desk) -> None:
    recipe = desk.shop.host.recipe_file
    before = recipe.read_text()
    recipe.write_text(before + "publish: [{cloud: demo, visibility: community, tags: [soe]}]\n")
    glance = Glance(Cloud("demo", QUICK))
    try:
        desk.json("policy", "approve", "--add", str(recipe))
        planned = desk.json("plan", str(recipe))["actions"]
        assert [each["subject"] for each in planned if each["step"] == "publish"] == ["glance:demo"]
        ((target, _),) = desk.json("build", str(recipe))["published"].items()
        image = glance.show(target.rpartition("/")[2])
        assert image is not None
        assert (image.visibility, image.tags) == ("community", ("soe",))
        assert desk.json("build", str(recipe))["unchanged"]
        glance.delete(image.id)
    finally:
        recipe.write_text(before)


@pytest.mark.parametrize(
    ("argv", "status", "code"),
    [
        (["--to", "glance:nowhere"], 2, "cloud-unknown"),
        (["--to", "glance:demo-reader"], 1, "cloud-forbidden"),
        (["--to", "glance:demo", "--visibility", "public"], 1, "visibility-refused"),
        (["--to", "glance:demo", "--visibility", "everybody"], 2, "usage"),
        (["--to", "glance:demo", "--format", "raw"], 2, "format-unsupported"),
        (["--to", "glance:demo", "--bandwidth", "fast"], 2, "usage"),
        (["--to", "catalogue:/tmp/x", "--visibility", "public"], 2, "usage"),
        (["--to", "nowhere"], 2, "target-unsupported"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_refusals(desk: Desk, argv: list[str], status: int, code: str) -> None:
    found = desk.json("publish", desk.release, *argv, status=status)
    assert found["error"]["code"] == code
    assert desk.shop.images() == []


def test_an_id_that_is_burnt_is_replaced(desk: Desk) -> None:
    argv = ("publish", desk.release, "--to", "glance:demo")
    first = desk.json(*argv)
    Glance(Cloud("demo", QUICK)).delete(desk.shop.only_image().id)
    second = desk.json(*argv)
    assert second["target"] != first["target"] == f"glance:demo/{first['target'].rpartition('/')[2]}"
    assert second["target"].endswith(desk.shop.only_image().id)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_killed_while_it_uploads(
    desk: Desk, network: Callable[..., FaultProxy], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    proxy = network(Fault("PUT", "/file$", Slow(20_000, "upload")))
    argv = ("publish", desk.release, "--to", "glance:demo")
    with desk.start(*argv) as process:
        begun = until(lambda: [each for each in proxy.exchanges if each.method == "PUT" and each.up > 0])
        assert begun
        process.send_signal(number)
        process.communicate(timeout=60)
    assert all(image.hidden for image in desk.shop.images())
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(desk.shop.cloud.clouds_yaml))
    done = desk.json(*argv)
    assert done["target"].endswith(desk.shop.only_image().id)
    assert not desk.shop.only_image().hidden


# -- preflight ---------------------------------------------------------------------------------------------------------


def leftovers() -> list[GlanceImage]:
    return Glance(Cloud("demo-admin", QUICK)).search(name="imagefactory-preflight", visibility="all")


@pytest.mark.parametrize(
    ("account", "ready", "answers"),
    [
        (
            "demo",
            True,
            {
                "create images": "yes",
                "upload data": "yes",
                "make images public": "yes",
                "Glance verifies signatures": "yes",
                "keep certificates in Barbican": "yes",
                "Nova verifies signatures": "unknown",
            },
        ),
        ("demo-member", True, {"make images community": "yes", "make images public": "no"}),
        ("demo-reader", False, {"create images": "no"}),
        ("demo-plain", True, {"keep certificates in Barbican": "no"}),
    ],
)
def test_preflight(desk: Desk, account: str, ready: bool, answers: dict[str, str]) -> None:
    found = desk.json("preflight", account, status=0 if ready else 1)
    assert found["ready"] is ready
    said = {each["question"]: each["outcome"] for each in found["findings"]}
    assert {question: said[question] for question in answers} == answers
    assert "qcow2" in found["formats"]
    assert leftovers() == []
    code, out, _ = desk.run("preflight", account)
    assert code == (0 if ready else 1)
    assert ("NOT READY" in out) is not ready
    assert "verify_glance_signatures" in out


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_no_credential_is_shown_logged_or_recorded(desk: Desk) -> None:
    _, out, err = desk.run("publish", desk.release, "--to", "glance:demo")
    lines = desk.shop.cloud.clouds_yaml.read_text().splitlines()
    secrets = {line.split()[-1] for line in lines if "password:" in line or "secret:" in line}
    assert len(secrets) > 2
    kept = [file for file in desk.shop.host.home.rglob("*") if file.is_file() and "artifacts" not in file.parts]
    texts = [out, err, *(file.read_text(errors="replace") for file in kept)]
    assert not any(secret in text for secret in secrets for text in texts)


# -- properties --------------------------------------------------------------------------------------------------------


def test_properties_of_an_image_in_a_cloud(desk: Desk) -> None:
    target = desk.json("publish", desk.release, "--to", "glance:demo")["target"]
    catalogue = desk.shop.host.home / "catalogue"
    desk.json("publish", desk.release, "--to", f"catalogue:{catalogue}")
    shown = {each["key"]: each for each in desk.json("properties", "show", target)["properties"]}
    assert {key: each["value"] for key, each in shown.items()} == dict(desk.shop.signed.manifest.properties)
    assert {each["source"] for each in shown.values()} == {"signed"}
    image = desk.shop.only_image()
    patch = [{"op": "replace", "path": "/os_distro", "value": "other"}, {"op": "add", "path": "/x", "value": "y"}]
    Glance(Cloud("demo", QUICK)).update(image.id, patch)
    found = desk.json("properties", "check", target, status=1)
    assert found["error"]["code"] == "image-property-changed"
    sources = {each["key"]: each["source"] for each in desk.json("properties", "show", target)["properties"]}
    assert (sources["os_distro"], sources["x"]) == ("not what was signed: debian", "not signed")
