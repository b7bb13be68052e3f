"""What goes into a build is what was looked at: keys, certificates, elements, proxies, and who could change them."""

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import ElementsUnsafe, HomeUnusable, InputsChanged, MirrorUnreachable
from imagefactory.factory.inputs import gather
from imagefactory.factory.line import Line
from imagefactory.hands import builder
from imagefactory.settings import read_settings
from imagefactory.tools.apt import Index
from imagefactory.tools.elements import shipped_elements
from imagefactory.tools.recipe_file import load_recipe
from imagefactory.wiring import factory
from tests.fakes.host import RECIPE, FakeHost, make_keys

NASTY = "a, [trusted=yes] key.asc"
KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
REPOSITORIES = f"""\
proxy: http://proxy.example:3128
ca_certificates: [ca.pem]
repositories:
  - {{uri: 'http://mirror.invalid/debian', suite: bookworm, components: [main], signed_by: '{NASTY}'}}
"""


@pytest.fixture
def referring(host: FakeHost) -> FakeHost:
    """A host whose recipe names a proxy, a certificate and a repository with a key of a nasty name."""
    host.recipe_file.write_text(RECIPE + REPOSITORIES)
    (host.recipe_file.parent / NASTY).write_bytes(KEY)
    (host.recipe_file.parent / "ca.pem").write_bytes(CERTIFICATE)
    return host


def requests(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the builder is asked, and with which environment, as `environment`."""
    seen: list[dict[str, Any]] = []
    ask = Line._build

    def asked(line: Line, request: dict[str, Any], step: str) -> dict[str, Any]:
        paths = [*request.get("rootfs", {}).get("keyrings", {}).values()] if step == "rootfs" else []
        seen.append({**request, "contents": [Path(path).read_bytes() for path in paths]})
        return ask(line, request, step)

    monkeypatch.setattr(Line, "_build", asked)
    return seen


def test_no_path_of_a_recipe_gets_into_a_source_line(referring: FakeHost) -> None:
    inputs = gather(referring.load(), referring.settings)
    name = f"{sha256(KEY).hexdigest()[:16]}.asc"
    assert [source.apt_line() for source in inputs.image_sources] == [
        f"deb [signed-by=/etc/apt/keyrings/{name}] http://mirror.invalid/debian bookworm main"
    ]
    copy = referring.home / "apt" / "fake-debian-12" / "keyrings" / name
    assert [source.signed_by for source in inputs.index_sources] == [str(copy)]
    index = inputs.index(referring.settings.environment)
    assert copy.read_bytes() == KEY
    index.refresh()
    assert "trusted" not in (index.directory / "sources.list").read_text()


def test_the_same_key_under_two_names_is_one_key(referring: FakeHost) -> None:
    other = "  - {uri: 'http://mirror.invalid/other', suite: s, components: [main], signed_by: other.asc}\n"
    referring.recipe_file.write_text(RECIPE + REPOSITORIES + other)
    (referring.recipe_file.parent / "other.asc").write_bytes(KEY)
    inputs = gather(referring.load(), referring.settings)
    assert len({source.signed_by for source in inputs.image_sources}) == 1
    assert len(inputs.keyrings) == 1


def test_the_recipe_s_proxy_is_for_package_lists_too(referring: FakeHost) -> None:
    proxy = {"http_proxy": "http://proxy.example:3128", "https_proxy": "http://proxy.example:3128"}
    inputs = gather(referring.load(), referring.settings)
    environment = {**referring.settings.environment, "http_proxy": "http://me:hunter2@other.example:1"}
    index = inputs.index(environment)
    assert index.environment == {**environment, **proxy}
    assert "proxy.example" not in repr(index)


@pytest.mark.parametrize("changed", [NASTY, "ca.pem"])
def test_keys_and_certificates_that_change_are_not_used(referring: FakeHost, changed: str) -> None:
    inputs = gather(referring.load(), referring.settings)
    (referring.recipe_file.parent / changed).write_bytes(KEY + CERTIFICATE + b"more")
    copy = inputs.copy_keyrings if changed == NASTY else inputs.copy_certificates
    with pytest.raises(InputsChanged, match="changed after the recipe was read"):
        copy(referring.root / "copies")
    assert list((referring.root / "copies").iterdir()) == []


def test_the_builder_sees_copies_only(referring: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = requests(monkeypatch)
    referring.build()
    rootfs = seen[0]["rootfs"]
    assert seen[0]["contents"] == [KEY]
    given = [*rootfs["keyrings"].values(), *rootfs["ca_certificates"]]
    assert [Path(path).relative_to(referring.home / "work").parts[1] for path in given] == [
        "keyrings",
        "ca-certificates",
    ]


def test_the_builder_does_not_follow_the_path_of_the_caller(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[Mapping[str, str]] = []

    def call(request: object, *, environment: Mapping[str, str], **others: object) -> dict[str, Any]:
        del request, others
        environments.append(environment)
        raise MirrorUnreachable("enough")

    monkeypatch.setattr("imagefactory.factory.line.call_builder", call)
    settings = read_settings({**host.environ, "PATH": f"/nobody/knows:{host.environ['PATH']}"})
    with factory(settings) as made, pytest.raises(MirrorUnreachable, match="enough"):
        made.build(host.load())
    assert environments[0]["PATH"] == settings.root_path
    assert "/nobody/knows" not in environments[0]["PATH"]


def test_the_provenance_names_no_place_on_this_machine(referring: FakeHost) -> None:
    referring.recipe_file.write_text(referring.recipe_file.read_text() + "publish: [{catalogue: images}]\n")
    loaded = referring.load()
    outcome = referring.build()
    (where,) = outcome.published.values()
    assert where.folder is not None
    bundle = json.loads((where.folder / "provenance.sigstore.json").read_bytes())
    statement = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    assert str(referring.root) not in statement.decode()
    parameters = json.loads(statement)["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["recipe"] == loaded.document
    assert parameters["recipeDigest"] == {"sha256": loaded.digest}


# -- elements ----------------------------------------------------------------------------------------------------------


def test_an_element_that_changes_while_it_is_built_is_not_remembered(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Line._build

    def meddle(line: Line, request: dict[str, Any], step: str) -> dict[str, Any]:
        made = ask(line, request, step)
        (host.recipe_file.parent / "elements/plain/element-deps").write_text("\n")
        return made

    monkeypatch.setattr(Line, "_build", meddle)
    with pytest.raises(InputsChanged, match="an element changed while it was built: plain"):
        host.build()
    with host.factory() as made:
        assert list(made.records.results()) == []


@pytest.mark.parametrize("part", ["elements", "elements/plain", "elements/plain/element-provides"])
def test_elements_that_everybody_may_write_to_are_refused_before_any_work(host: FakeHost, part: str) -> None:
    (host.recipe_file.parent / part).chmod(0o777)
    with pytest.raises(ElementsUnsafe):
        host.build()
    assert not (host.control / "visited").exists()


def test_elements_that_are_configured_are_looked_at_too(host: FakeHost) -> None:
    other = host.root / "other"
    shutil.move(host.recipe_file.parent / "elements", other)
    settings = read_settings({**host.environ, "IMAGEFACTORY_ELEMENTS": str(other)})
    gather(host.load(), settings)
    (other / "plain").chmod(0o777)
    with pytest.raises(ElementsUnsafe):
        gather(host.load(), settings)


def test_elements_in_a_folder_that_the_shell_would_split_are_refused(host: FakeHost) -> None:
    moved = host.recipe_file.parent.rename(host.root / "a recipe")
    with pytest.raises(ElementsUnsafe, match="white space"):
        gather(load_recipe(moved / "fake.yaml"), host.settings)


# -- package lists -----------------------------------------------------------------------------------------------------


def lists(host: FakeHost) -> Path:
    return host.home / "apt" / "fake-debian-12" / "lists"


def test_a_repository_without_in_release_is_seen_to_change(host: FakeHost) -> None:
    index = gather(host.load(), host.settings).index(host.settings.environment)
    first = index.refresh()
    release = lists(host) / "other.invalid_debian_dists_s_Release"
    release.write_text("one")
    second = index.refresh()
    release.write_text("two")
    assert len({first, second, index.refresh()}) == 3


def test_lists_are_fetched_where_those_that_are_wanted_are_not(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = gather(host.load(), host.settings).index(host.settings.environment)
    elsewhere = replace(here, directory=tmp_path / "elsewhere")
    wanted = here.refresh()
    elsewhere.have(wanted)
    assert elsewhere.refresh() == wanted
    monkeypatch.setattr(Index, "refresh", lambda _: pytest.fail("they are there"))
    elsewhere.have(wanted)


def test_a_source_without_any_release_file_is_unreachable(host: FakeHost) -> None:
    index = gather(host.load(), host.settings).index(host.settings.environment)
    more = tuple(type(index.sources[0])(f"http://{n}.invalid", "s", ("main",), None) for n in "ab")
    with pytest.raises(MirrorUnreachable, match="neither InRelease nor Release"):
        Index(index.directory, (*index.sources, *more), index.environment).refresh()


def test_a_home_made_with_its_keys_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_keys(tmp_path / "home")
    finally:
        os.umask(before)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_the_place_of_the_keys_is_empty_and_takes_no_memory(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts: list[list[str]] = []
    monkeypatch.setattr(builder, "run", lambda argv, **_: mounts.append([str(part) for part in argv]))
    keys = str(host.home / "keys")
    builder._prepare({"environment": {}, "scratch": "/scratch", "scratch_size": 4096, "hide": [keys, "/nowhere"]})
    assert mounts[0][-3:] == ["size=4096,mode=0755", "tmpfs", "/scratch"]
    assert mounts[1:] == [["mount", "-t", "tmpfs", "-o", "ro,size=4k,mode=0000", "tmpfs", keys]]


def test_a_proxy_s_password_is_in_no_arguments(tmp_path: Path) -> None:
    """The element gives mmdebstrap its proxy by the environment, and quotes the folder of the keys."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in (
        ("mmdebstrap", 'echo "$http_proxy" > "$SEEN/proxy"; printf "%s\\n" "$@" > "$SEEN/argv"\n'),
        ("env", 'printf "%s\\n" "$@" > "$SEEN/env"\n'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{script}")
        (programs / name).chmod(0o755)
    hooks = tmp_path / "hooks" / "bin"
    hooks.mkdir(parents=True)
    shutil.copytree(shipped_elements() / "soe-debian/soe-debian", tmp_path / "hooks/soe-debian")
    (hooks / "package-installs-squash").write_text("import sys\nopen(sys.argv[-1], 'w').write('{}')\n")
    (tmp_path / "sources").touch()
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "SEEN": str(tmp_path),
        "TARGET_ROOT": str(tmp_path / "root"),
        "DIB_SOE_SOURCES": str(tmp_path / "sources"),
        "DIB_SOE_KEYRINGS": "/a b/$(c)",
        "DIB_PYTHON_EXEC": sys.executable,
        "DIB_RELEASE": "bookworm",
        "TMP_HOOKS_PATH": str(tmp_path / "hooks"),
        "IMAGE_ELEMENT": "x",
        "ELEMENTS_PATH": "/x",
        "ARCH": "amd64",
        "http_proxy": "http://me:hunter2@proxy.example:3128",
    }
    element = shipped_elements() / "soe-debian"
    subprocess.run(["/bin/bash", str(element / "root.d/08-mmdebstrap")], env=environment, check=True, timeout=30)
    assert "hunter2" in (tmp_path / "proxy").read_text()
    argv = (tmp_path / "argv").read_text().splitlines()
    assert "hunter2" not in str(argv)
    assert not (tmp_path / "env").exists()
    (hook,) = [word for word in argv if word.startswith("--setup-hook=sync-in")]
    assert shlex.split(hook.partition("=")[2]) == ["sync-in", "/a b/$(c)", "/etc/apt/keyrings"]


def test_a_home_that_others_misread_is_refused_early(host: FakeHost) -> None:
    settings = read_settings({**host.environ, "IMAGEFACTORY_HOME": str(host.root / "my home")})
    with pytest.raises(HomeUnusable), factory(settings):
        raise AssertionError("not reached")
    assert not (host.root / "my home").exists()
