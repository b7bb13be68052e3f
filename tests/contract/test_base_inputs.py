"""The image that a recipe starts from, as an input of a build: where it is found, and what it decides."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import (
    BaseChanged,
    BaseMissing,
    BaseNotAnImage,
    BaseUnreachable,
    ElementsConflict,
    RequestInvalid,
)
from imagefactory.factory import approvals
from imagefactory.factory.base import BaseImage, fetch
from imagefactory.factory.inputs import gather
from imagefactory.factory.line import Line
from imagefactory.progress import Event
from imagefactory.settings import Settings, read_settings
from imagefactory.tools.elements import shipped_elements
from tests.contract.test_feed_fetch import CONTENT, Site, site
from tests.fakes.host import RECIPE, FakeHost

__all__ = ["site"]
IMAGE = b"an image"
DIGEST = sha256(IMAGE).hexdigest()


@pytest.fixture
def based(host: FakeHost) -> FakeHost:
    """A recipe that starts from a file."""
    (host.recipe_file.parent / "base.qcow2").write_bytes(IMAGE)
    start_from(host, DIGEST)
    return host


def start_from(host: FakeHost, digest: str, image: str = "base.qcow2") -> None:
    recipe = RECIPE.replace("elements: [plain]", "elements: [soe-debian]")
    host.recipe_file.write_text(f"{recipe}base: {{image: {image}, sha256: '{digest}'}}\n")


def test_it_brings_its_element_and_its_digest(based: FakeHost) -> None:
    inputs = gather(based.load(), based.settings)
    assert inputs.asked == ("soe-debian", "soe-from-image")
    assert {"soe-from-image", "rootfs-tar"} <= inputs.elements.keys()
    assert inputs.rootfs()["base"] == DIGEST
    assert inputs.base is not None
    assert inputs.base.text == f"base.qcow2 sha256:{DIGEST[:12]}"


def test_who_approves_the_recipe_approves_its_element(based: FakeHost) -> None:
    """Or the signer would refuse every image that was made from a base."""
    approved = approvals.element_digests(based.load(), based.settings)
    assert approved == gather(based.load(), based.settings).element_digests


def test_another_digest_is_another_root_file_system_and_another_place_is_none(based: FakeHost) -> None:
    first = gather(based.load(), based.settings).rootfs_key()
    start_from(based, "0" * 64)
    assert gather(based.load(), based.settings).rootfs_key() != first
    (based.recipe_file.parent / "other.qcow2").write_bytes(IMAGE)
    start_from(based, DIGEST, "other.qcow2")
    assert gather(based.load(), based.settings).rootfs_key() == first


def test_without_a_base_nothing_changes(host: FakeHost) -> None:
    inputs = gather(host.load(), host.settings)
    assert "base" not in inputs.rootfs()
    assert inputs.asked == ("plain",)


@pytest.mark.parametrize("kind", ["none", "folder"])
def test_a_file_that_is_not_there(based: FakeHost, kind: str) -> None:
    (based.recipe_file.parent / "folder").mkdir()
    start_from(based, DIGEST, kind)
    with pytest.raises(BaseMissing):
        gather(based.load(), based.settings)


def test_a_link_to_an_image_is_followed(based: FakeHost) -> None:
    (based.recipe_file.parent / "link").symlink_to("base.qcow2")
    start_from(based, DIGEST, "link")
    found = gather(based.load(), based.settings).base
    assert found is not None
    assert Path(found.where).name == "base.qcow2"


def test_an_operating_system_of_another_element(based: FakeHost) -> None:
    text = based.recipe_file.read_text().replace("[soe-debian]", "[plain]")
    based.recipe_file.write_text(text)
    with pytest.raises(ElementsConflict):
        gather(based.load(), based.settings)


def test_a_plan_says_what_it_starts_from(based: FakeHost) -> None:
    with based.factory() as made:
        rootfs, *_ = made.plan(based.load())
    assert rootfs.reason == f"it was never built; starts from base.qcow2 sha256:{DIGEST[:12]}"


@pytest.mark.parametrize(("digest", "error"), [("0" * 64, BaseChanged), (DIGEST, BaseNotAnImage)])
def test_a_bad_base_ends_the_build_before_root_does_anything(
    based: FakeHost, monkeypatch: pytest.MonkeyPatch, digest: str, error: type[Exception]
) -> None:
    def nobody(*_: Any) -> dict[str, Any]:  # noqa: ANN401
        raise RequestInvalid("the builder was asked")

    monkeypatch.setattr(Line, "_build", nobody)
    start_from(based, digest)
    with pytest.raises(error):
        based.build()
    assert list((based.home / "work").iterdir()) == []


# -- from an address --------------------------------------------------------------------------------------------------


def get(site: Site, events: list[Event], digest: str = sha256(CONTENT).hexdigest()) -> Path:
    base = BaseImage("address", site.url, site.url, digest)
    return fetch(base, _settings(site), site.home, site.environment, events.append)


def _settings(site: Site) -> Settings:
    return read_settings({"HOME": str(site.home), "IMAGEFACTORY_HOME": str(site.home / "home")})


def test_it_is_fetched_once_and_said(site: Site) -> None:
    events: list[Event] = []
    path = get(site, events)
    assert (path.read_bytes(), path.parent.name) == (CONTENT, sha256(CONTENT).hexdigest())
    assert get(site, events) == path
    assert (len(site.asked), len(events)) == (1, 1)


def test_other_bytes_than_the_pinned_ones_are_not_kept(site: Site) -> None:
    with pytest.raises(BaseChanged, match="pinned is 0000"):
        get(site, [], "0" * 64)
    assert list((site.home / "home/bases").iterdir()) == []


def test_a_server_that_has_none(site: Site) -> None:
    site.status = 404
    with pytest.raises(BaseUnreachable):
        get(site, [])


# -- its element ------------------------------------------------------------------------------------------------------


def test_the_element_starts_programs_that_are_there_and_tells_no_password(tmp_path: Path) -> None:
    """Its folders lie where diskimage-builder copies them: side by side, those of `bin` into the image, too."""
    hooks, programs = tmp_path / "hooks", tmp_path / "programs"
    for element in ("soe-debian", "soe-from-image"):
        shutil.copytree(shipped_elements() / element / element, hooks / element)
        assert not (shipped_elements() / element / "bin").exists()
    (hooks / "bin").mkdir()
    (hooks / "bin/package-installs-squash").write_text("import sys\nopen(sys.argv[-1], 'w').write('{}')\n")
    programs.mkdir()
    (programs / "mmdebstrap").write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$SOE_PACKAGES" > "$SEEN"\n')
    (programs / "mmdebstrap").chmod(0o755)
    for name in ("base.tar", "sources"):
        (tmp_path / name).touch()
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "SEEN": str(tmp_path / "seen"),
        "TARGET_ROOT": str(tmp_path / "root"),
        "DIB_SOE_BASE": str(tmp_path / "base.tar"),
        "DIB_SOE_SOURCES": str(tmp_path / "sources"),
        "DIB_SOE_KEYRINGS": str(programs),
        "DIB_SOE_PACKAGES": "openssl,bash",
        "DIB_PYTHON_EXEC": sys.executable,
        "DIB_RELEASE": "bookworm",
        "TMP_HOOKS_PATH": str(hooks),
        "IMAGE_ELEMENT": "x",
        "ELEMENTS_PATH": "/x",
        "ARCH": "amd64",
        "http_proxy": "http://me:hunter2@proxy.example:3128",
    }
    script = shipped_elements() / "soe-from-image/root.d/07-soe-from-image"
    subprocess.run(["/bin/bash", str(script)], env=environment, check=True, timeout=30)
    seen = (tmp_path / "seen").read_text()
    assert "hunter2" not in seen
    assert seen.endswith("bash\nopenssl\n")
    started = [Path(line.partition("=")[2]) for line in seen.splitlines() if "-hook=" in line]
    assert [path.name for path in started] == ["unpack", "upgrade"]
    assert all(os.access(path, os.X_OK) for path in started)
