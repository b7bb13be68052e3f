"""The recipe as a model: what the fields take and refuse, the schema, and what is written out again."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from imagefactory.errors import Place
from imagefactory.model.quantity import GIB, KIB, MIB
from imagefactory.model.recipe import LoadedRecipe, Recipe, effective, known_keys, recipe_schema
from imagefactory.model.recipe_fields import Part
from imagefactory.model.recipe_targets import CloudTarget, format_for, visibility_refusal
from imagefactory.tools.recipe_file import load_recipe
from imagefactory.tools.recipe_yaml import read_tree

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.glob("*.yaml"))

MINIMAL: dict[str, Any] = {
    "name": "tiny",
    "os": {"distro": "debian", "version": "12"},
    "elements": ["soe-base"],
    "disk": {"size": "2 GiB"},
    "formats": {"qcow2": None},
}
FULL: dict[str, Any] = {
    **MINIMAL,
    "display_name": "Tiny",
    "description": "Two\nlines",
    "repositories": [
        {"uri": "https://deb.example:8443/debian", "suite": "bookworm", "components": ["main"], "signed_by": "a.asc"},
        {"uri": "http://mirror.example/debian", "suite": "bookworm", "components": ["main", "contrib"]},
    ],
    "proxy": "http://[fd00::1]:3128",
    "ca_certificates": ["ca.pem"],
    "packages": ["g++", "libc6", "0ad"],
    "environment": {"DIB_SOE_KERNEL": "linux-image-amd64", "DIB_KEYBOARD": "us"},
    "disk": {
        "size": "8 GiB",
        "firmware": ["uefi"],
        "filesystem": "ext4",
        "layout": "separate",
        "sizes": {"/var": "2 GiB", "/var/log/audit": "96 MiB"},
    },
    "formats": {"raw": None, "qcow2": {"compression": "none", "cluster_size": "2 MiB"}, "iso": {}},
    "tests": {"boot": {"memory": "512 MiB", "timeout": "90s", "expect": ["ready"]}},
    "compliance": {
        "profile": "anssi_bp28_enhanced",
        "content": "/srv/scap/ds.xml",
        "tailoring": "/srv/scap/tailoring.xml",
        "min_score": 95,
        "exceptions": [
            {"rule": "grub2_password", "reason": "Nobody has a console.", "owner": "SOE", "expires": "2027-06-30"}
        ],
    },
    "vulnerabilities": {
        "feed": "https://security-tracker.debian.org/tracker/data/json",
        "max_severity": "medium",
        "exceptions": [
            {"cve": "CVE-2026-12345", "reason": "The code is not built.", "owner": "SOE", "expires": "2027-06-30"}
        ],
    },
    "properties": {"hw_rng_model": "virtio", "trait:HW_CPU_X86_VMX": "required", "hw_watchdog": 3},
    "licensed": "BYOL",
    "publish": [
        {"catalogue": "/srv/images"},
        {"cloud": "prod", "visibility": "public", "allow_public": True, "format": "raw", "bandwidth": "20 MiB/s"},
        {
            "cloud": "test",
            "visibility": "shared",
            "members": ["0123456789abcdef" * 2],
            "tags": ["os:debian", "managed_by_us"],
            "protected": True,
            "certificate_readers": ["0123456789abcdef" * 4],
            "store": "rbd",
        },
    ],
    "channels": ["candidate", "stable"],
    "requires_approval": 1,
    "lifecycle": {
        "keep_at_least": 3,
        "keep_at_most": 10,
        "obsolete_after": "30 days",
        "delete_after": "90d",
        "grace": "0 days",
        "exclude": {"tags": ["keep"], "protected": False, "shared": False},
        "window": {"days": ["mon", "fri"], "from": "22:00", "to": "05:00", "time_zone": "Europe/Berlin"},
    },
    "in_use_cloud": {"prod": "prod-admin", "test": "test"},
    "schedule": {
        "cron": "30 2 * * 1",
        "timezone": "Europe/Vienna",
        "jitter": "10m",
        "window": {"from": "22:00", "to": "05:00"},
        "only_if_changed": False,
        "pause_after": 5,
    },
}


def refused(change: dict[str, Any]) -> list[tuple[str, str]]:
    """The codes (or pydantic's types) and the messages for the minimal recipe with `change`."""
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate({**MINIMAL, **change})
    return [(problem["type"], problem["msg"]) for problem in error.value.errors()]


def test_defaults() -> None:
    recipe = Recipe.model_validate(MINIMAL)
    assert (recipe.os.codename, recipe.os.arch) == ("bookworm", "amd64")
    assert recipe.disk.firmware == ("bios", "uefi")
    assert recipe.formats.names == ("qcow2",)
    assert recipe.formats.qcow2 is not None
    assert (recipe.formats.qcow2.compression, recipe.formats.qcow2.cluster_size) == ("zstd", 64 * KIB)
    assert (recipe.tests.boot.memory, recipe.tests.boot.timeout, recipe.tests.boot.expect) == (GIB, 600, ())
    assert (recipe.repositories, recipe.publish, recipe.packages) == ((), (), ())


@pytest.mark.parametrize(("version", "codename"), [("12", "bookworm"), ("13", "trixie")])
def test_a_version_has_one_codename(version: str, codename: str) -> None:
    system = {"distro": "debian", "version": version}
    assert Recipe.model_validate({**MINIMAL, "os": system}).os.codename == codename
    assert Recipe.model_validate({**MINIMAL, "os": {**system, "codename": codename}}).os.codename == codename
    (other,) = {"bookworm", "trixie"} - {codename}
    said = f"should be {codename}, which is Debian {version}"
    assert refused({"os": {**system, "codename": other}}) == [("recipe-invalid", said)]


@pytest.mark.parametrize("source", [MINIMAL, FULL], ids=["minimal", "full"])
def test_written_out_and_read_again_it_is_the_same(source: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(source)
    written = json.loads(json.dumps(effective(recipe)))
    assert Recipe.model_validate(written) == recipe
    assert effective(Recipe.model_validate(written)) == written


def test_nothing_in_it_can_be_altered() -> None:
    recipe = Recipe.model_validate(FULL)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        recipe.environment["A"] = "b"  # type: ignore[index]
    with pytest.raises(TypeError):
        recipe.properties["a"] = "b"  # type: ignore[index]
    with pytest.raises(TypeError):
        recipe.disk.sizes["/var"] = 1  # type: ignore[index]


def test_sizes_of_file_systems_are_bytes() -> None:
    assert dict(Recipe.model_validate(FULL).disk.sizes) == {"/var": 2 * GIB, "/var/log/audit": 96 * MIB}
    disk = Recipe.model_validate(MINIMAL).disk
    assert (disk.layout, dict(disk.sizes)) == ("single", {})


@pytest.mark.parametrize(
    "name", ["a", "a" * 63, "soe-debian-12", "0"], ids=["one letter", "63 letters", "hyphens", "a digit"]
)
def test_good_names(name: str) -> None:
    assert Recipe.model_validate({**MINIMAL, "name": name}).name == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a" * 64, "a\n", "a/b", "..", "é"])
def test_bad_names(name: str) -> None:
    (code, message), *others = refused({"name": name})
    assert (code, others) == ("recipe-invalid", [])
    assert message.startswith("should be 1 to 63 lower-case letters, digits and hyphens")


@pytest.mark.parametrize(
    "name", ["a", "Curl", "curl=1.0", "curl:amd64", "curl;reboot", "$(x)", "-o", "curl curl", "a_b"]
)
def test_bad_packages(name: str) -> None:
    assert [code for code, _ in refused({"packages": [name]})] == ["recipe-invalid"]


@pytest.mark.parametrize("name", ["../etc", "a/b", ".hidden", "a b", "$x", ""])
def test_bad_elements(name: str) -> None:
    assert [code for code, _ in refused({"elements": [name]})] == ["recipe-invalid"]


@pytest.mark.parametrize(
    "name",
    [
        *("DIB_PASSWORD", "MYSQL_ROOT_PASSWD", "API_TOKEN", "TOKENS", "DIB_CREDENTIALS"),
        *("AWS_SECRET_ACCESS_KEY", "APIKEY", "SSH_KEYS", "KEY"),
    ],
)
def test_variables_that_look_like_secrets(name: str) -> None:
    ((code, message),) = refused({"environment": {name: "hunter2"}})
    assert (code, message) == ("secret-in-recipe", f"'{name}' looks like the name of a secret")


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "LD_AUDIT", "PATH", "BASH_ENV", "ENV", "IFS", "PS4"),
        *("PYTHONPATH", "PERL5LIB", "SUDO_ASKPASS", "TMP_DIR", "APT_CONFIG"),
        *("DIB_PYTHON_EXEC", "DIB_GZIP_BIN", "DIB_DEBIAN_DEBOOTSTRAP_SCRIPT", "DIB_DEBOOTSTRAP_EXTRA_ARGS"),
    ],
)
def test_variables_that_take_over_programs(name: str) -> None:
    ((code, message),) = refused({"environment": {name: "x"}})
    assert code == "recipe-invalid"
    assert message == f"'{name}' would change how programs run: elements may not have it set"


@pytest.mark.parametrize("name", ["lower", "1A", "A-B", "A B", "", "A=B", "BASH_FUNC_x%%"])
def test_bad_variables(name: str) -> None:
    assert [code for code, _ in refused({"environment": {name: "x"}})] == ["recipe-invalid"]


def test_a_variable_that_comes_from_a_field() -> None:
    assert refused({"environment": {"DIB_RELEASE": "sid"}}) == [
        ("recipe-invalid", "DIB_RELEASE is set by the build: see the field os")
    ]


SECRETS = {
    "a password in a URL": "see https://joe:hunter2@git.example/x",
    "a name in a URL": "git+ssh://joe@git.example/x",
    "a password that holds a colon": "HTTP://a:b:hunter2@h",
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "a PGP key": "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "a PKCS#8 key": "-----BEGIN PRIVATE KEY-----",
}


@pytest.mark.parametrize("value", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("where", ["environment", "properties", "description", "display_name", "expect"])
def test_secrets_are_refused_wherever_there_is_text(where: str, value: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "environment": {"environment": {"A": value}},
        "properties": {"properties": {"a": value}},
        "expect": {"tests": {"boot": {"expect": [value]}}},
    }
    ((code, message),) = refused(changes.get(where, {where: value}))
    assert code == "secret-in-recipe"
    assert "hunter2" not in message


@pytest.mark.parametrize("value", ["https://example.org/a@b", "joe@example.org", "mailto:joe@example.org"])
def test_an_at_sign_alone_is_no_secret(value: str) -> None:
    assert Recipe.model_validate({**MINIMAL, "environment": {"A": value}}).environment["A"] == value


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("https://joe:hunter2@deb.example/debian", "secret-in-recipe"),
        ("ftp://deb.example/debian", "recipe-invalid"),
        ("HTTP://deb.example/debian", "recipe-invalid"),
        ("http:///debian", "recipe-invalid"),
        ("http://deb.example:99999/", "recipe-invalid"),
        ("http://[::1/", "recipe-invalid"),
        ("http://deb.example/ bookworm", "recipe-invalid"),
        ("http://deb.example/\n", "recipe-invalid"),
        ("http://deb.example/?a=b", "recipe-invalid"),
        ("file:///srv/mirror", "recipe-invalid"),
        ("file://host/srv", "recipe-invalid"),
        ("file:relative", "recipe-invalid"),
        ("deb.example", "recipe-invalid"),
        ("cdrom:[x]/", "recipe-invalid"),
        ("copy:/etc", "recipe-invalid"),
        ("", "recipe-invalid"),
    ],
)
def test_bad_repositories(uri: str, code: str) -> None:
    ((found, message),) = refused({"repositories": [{"uri": uri, "suite": "s", "components": ["main"]}]})
    assert found == code
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "change",
    [{"suite": "a b"}, {"suite": "[trusted=yes]"}, {"components": []}, {"components": ["m", "m"]}, {"signed_by": "k"}],
)
def test_bad_repository_parts(change: dict[str, Any]) -> None:
    repository = {"uri": "http://h/", "suite": "s", "components": ["main"], **change}
    assert len(refused({"repositories": [repository]})) == 1


@pytest.mark.parametrize("proxy", ["file:///x", "socks5://h", "http://", "h:3128"])
def test_bad_proxies(proxy: str) -> None:
    assert [code for code, _ in refused({"proxy": proxy})] == ["recipe-invalid"]


@pytest.mark.parametrize(
    "properties",
    [
        {"os_glance_x": "1"},
        {"img_signature": "x"},
        {"imagefactory_release": "x"},
        {"owner": "x"},
        {"a b": "x"},
        {"a": True},
        {"a": 1.5},
        {"a": None},
        {"a": "x" * 4097},
        {"a": "b\nc"},
        {f"p{n}": "x" for n in range(81)},
    ],
    ids=lambda properties: next(iter(properties)),
)
def test_bad_properties(properties: dict[str, Any]) -> None:
    assert len(refused({"properties": properties})) == 1


@pytest.mark.parametrize("target", [{}, {"catalogue": "a", "cloud": "b"}, {"visibility": "public"}, "prod", None])
def test_a_target_is_either_a_catalogue_or_a_cloud(target: object) -> None:
    assert refused({"publish": [target]}) == [("recipe-invalid", "should have either catalogue: PATH or cloud: NAME")]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"members": ["0" * 32]}, "members mean nothing where visibility is private, not shared"),
        ({"visibility": "shared", "members": ["my-project"]}, "should be an id of 32 or 64 hexadecimal digits"),
        ({"visibility": "shared", "members": ["0" * 32] * 2}, "twice"),
        ({"certificate_readers": ["joe"]}, "should be an id of 32 or 64 hexadecimal digits"),
        ({"tags": ["a,b"]}, "should be a tag, such as os:debian"),
        ({"tags": ["a", "a"]}, "has 'a' twice"),
        ({"bandwidth": "20 MiB"}, 'did you mean "20 MiB/s"?'),
        ({"bandwidth": "1 B/s"}, "should be from 1 KiB/s to 100 GiB/s"),
        ({"format": "iso"}, "'qcow2' or 'raw'"),
        ({"store": "ceph"}, "'rbd' or 'other'"),
        ({"allow_public": "yes"}, "valid boolean"),
        ({"visibility": "all"}, "'private', 'shared', 'community' or 'public'"),
    ],
)
def test_bad_clouds(change: dict[str, Any], text: str) -> None:
    ((_, message),) = refused({"publish": [{"cloud": "mine", **change}]})
    assert text in message


@pytest.mark.parametrize(
    ("wanted", "formats", "found"),
    [
        (None, ("raw", "qcow2"), "qcow2"),
        (None, ("raw",), "raw"),
        (None, ("iso",), None),
        ("raw", ("raw", "qcow2"), "raw"),
        ("raw", ("qcow2",), None),
    ],
)
def test_which_format_goes_to_a_cloud(wanted: str | None, formats: tuple[str, ...], found: str | None) -> None:
    assert format_for(CloudTarget.model_validate({"cloud": "mine", "format": wanted}), formats) == found


@pytest.mark.parametrize(
    ("wanted", "formats", "found"),
    [
        (None, ("raw", "qcow2"), "raw"),
        ("raw", ("raw", "qcow2"), "raw"),
        (None, ("qcow2",), None),
        ("qcow2", ("raw", "qcow2"), None),
    ],
)
def test_raw_goes_to_rbd(wanted: str | None, formats: tuple[str, ...], found: str | None) -> None:
    target = CloudTarget.model_validate({"cloud": "mine", "format": wanted, "store": "rbd"})
    assert format_for(target, formats) == found


@pytest.mark.parametrize(
    ("target", "licensed", "refusal"),
    [
        ({"visibility": "private"}, "BYOL", None),
        ({"visibility": "shared"}, "BYOL", None),
        ({"visibility": "community"}, None, None),
        ({"visibility": "community"}, "BYOL", "visibility community is not for licensed images: BYOL"),
        ({"visibility": "public"}, None, "visibility public wants allow_public: true beside it"),
        ({"visibility": "public", "allow_public": True}, None, None),
        ({"visibility": "public", "allow_public": True}, "BYOL", "visibility public is not for licensed images: BYOL"),
    ],
)
def test_who_may_see_an_image(target: dict[str, Any], licensed: str | None, refusal: str | None) -> None:
    assert visibility_refusal(CloudTarget.model_validate({"cloud": "mine", **target}), licensed) == refusal


def test_known_keys() -> None:
    assert set(known_keys(("tests", "boot"))) == {"memory", "timeout", "expect", "upgrade"}
    assert set(known_keys(("formats", "qcow2"))) == {"compression", "cluster_size"}
    assert {"catalogue", "cloud", "visibility", "members"} < set(known_keys(("publish", 3)))
    assert {"keep_at_least", "obsolete_after", "window"} < set(known_keys(("lifecycle",)))
    assert set(known_keys(("lifecycle", "window"))) == {"days", "from", "to", "time_zone"}
    assert {"cron", "timezone", "window"} < set(known_keys(("schedule",)))
    assert {"name", "extends"} < set(known_keys(()))


def test_where_finds_the_nearest_around() -> None:
    place = Place(Path("r.yaml"), 3, 1)
    loaded = LoadedRecipe(Recipe.model_validate(MINIMAL), (), "", {}, {("formats",): place})
    assert loaded.where("formats", "iso") == place
    assert loaded.where("os") is None


# -- the schema -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_recipes_that_ship_load_and_fit_the_schema(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(recipe_schema())
    validator.validate(read_tree(path.read_text(), path).plain())
    loaded = load_recipe(path)
    assert loaded.recipe.name == path.stem
    validator.validate(effective(loaded.recipe))


def test_what_ships() -> None:
    assert {"soe-debian-12", "soe-debian-13", "tiny-debian-12"} <= {path.stem for path in SHIPPED}


def test_the_schema_is_one_and_takes_what_the_model_takes() -> None:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for source in (MINIMAL, FULL, {"extends": "other.yaml", "packages": ["curl"]}):
        jsonschema.validate(source, schema)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "A"},
        {"nmae": "a"},
        {"disk": {"size": 4096}},
        {"disk": {"size": "4 GB"}},
        {"formats": {}},
        {"elements": []},
        {"elements": ["a", "a"]},
        {"environment": {"lower": "x"}},
        {"publish": [{"cloud": "a", "catalogue": "b"}]},
        {"os": {"distro": "debian", "version": 12}},
        {"lifecycle": {"keep": 3}},
        {"lifecycle": {"keep_at_least": 0}},
        {"lifecycle": {"grace": "a week"}},
        {"channels": []},
        {"in_use_cloud": {}},
        {"schedule": {"daily": True}},
    ],
    ids=str,
)
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**MINIMAL, **change}, recipe_schema())


def test_every_field_is_described_and_defaults_have_units() -> None:
    schema = recipe_schema()
    for model in (schema, *schema["$defs"].values()):
        for name, field in model["properties"].items():
            assert field.get("description"), f"{model['title']}.{name}"
    boot = schema["$defs"]["BootTest"]["properties"]
    assert (boot["memory"]["default"], boot["timeout"]["default"]) == ("1 GiB", "10m")
    assert schema["$defs"]["GuestCheck"]["properties"]["timeout"]["default"] == "1m"
    assert schema["$defs"]["GuestCheck"]["required"] == ["name"]
    assert schema["$defs"]["Qcow2Options"]["properties"]["cluster_size"]["default"] == "64 KiB"
    assert schema["$defs"]["LifecyclePolicy"]["properties"]["grace"]["default"] == "7d"


def test_every_part_is_strict_and_frozen() -> None:
    for part in Part.__subclasses__():
        config = part.model_config
        assert (config.get("strict"), config.get("frozen"), config.get("extra")) == (True, True, "forbid"), part
