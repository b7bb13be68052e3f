"""What a recipe says of the image that it starts from, and what of that image is no part of the next."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imagefactory.factory.base import BaseImage
from imagefactory.model.identity import is_left_out, is_rewritten, rewrite
from imagefactory.model.plan import plan
from imagefactory.model.recipe import Recipe
from imagefactory.model.recipe_base import Base
from imagefactory.steps.attest import _base
from imagefactory.tools.recipe_file import load_recipe
from tests.unit.test_plan import DONE, NOTHING
from tests.unit.test_recipe import MINIMAL
from tests.unit.test_recipe_file import MINIMAL as TEXT

DIGEST = "ab" * 32


def base(**fields: Any) -> Base:  # noqa: ANN401
    found = Recipe.model_validate({**MINIMAL, "base": fields}).base
    assert found is not None
    return found


# -- in a recipe ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["base.qcow2", "/srv/a b.raw", "https://images.example.org/debian-12.qcow2"])
def test_a_pinned_image(image: str) -> None:
    assert base(image=image, sha256=DIGEST).sha256 == DIGEST


def test_an_image_in_a_cloud_needs_no_digest() -> None:
    assert base(image="glance:demo/Debian 12").sha256 is None
    assert base(image="glance:demo/Debian 12", sha256=DIGEST).sha256 == DIGEST


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"image": "base.qcow2"}, "should have sha256, the digest of the image"),
        ({"image": "https://example.org/x"}, "should have sha256"),
        ({"image": "base.qcow2", "sha256": "AB" * 32}, "64 lower-case hexadecimal digits"),
        ({"image": "base.qcow2", "sha256": "ab"}, "64 lower-case hexadecimal digits"),
        ({"image": "http://example.org/x", "sha256": DIGEST}, "begins with https://"),
        ({"image": "https://me:secret@example.org/x", "sha256": DIGEST}, "user name or password"),
        ({"image": "glance:demo"}, "should be glance:CLOUD/NAME or glance:CLOUD/ID"),
        ({"image": "glance:-x/y"}, "should be glance:CLOUD/NAME"),
        ({"image": "", "sha256": DIGEST}, "at least 1 character"),
        ({"image": "a\nb", "sha256": DIGEST}, "one line"),
        ({"sha256": DIGEST}, "Field required"),
        ({"image": "a", "sha256": DIGEST, "digest": "x"}, "not permitted"),
    ],
)
def test_bad_bases(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        base(**fields)


def test_the_element_s_variable_is_no_recipe_s() -> None:
    with pytest.raises(ValidationError, match="see the field base"):
        Recipe.model_validate({**MINIMAL, "environment": {"DIB_SOE_BASE": "/etc"}})


def test_a_path_counts_from_its_file_and_stays_as_it_was_written(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{TEXT}base: {{image: ../base.qcow2, sha256: {DIGEST}}}\n")
    loaded = load_recipe(recipe)
    assert loaded.recipe.base is not None
    assert loaded.recipe.base.image == str(tmp_path / "../base.qcow2")
    assert loaded.document["base"] == {"image": "../base.qcow2", "sha256": DIGEST}
    recipe.write_text(f"{TEXT}base: {{image: 'glance:demo/x'}}\n")
    assert load_recipe(recipe).document["base"] == {"image": "glance:demo/x"}


# -- in a plan and in a provenance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", [DONE, NOTHING])
def test_a_plan_says_what_it_starts_from(situation: Any) -> None:  # noqa: ANN401
    first, *rest = plan(replace(situation, base="base.qcow2 sha256:abababababab"))
    before, *others = plan(situation)
    assert first.reason == f"{before.reason}; starts from base.qcow2 sha256:abababababab"
    assert (rest, first.run) == (others, before.run)


def test_what_is_said_of_each_kind() -> None:
    file = BaseImage("file", "../images/base.qcow2", "/srv/images/base.qcow2", DIGEST)
    address = BaseImage("address", "https://example.org/a/base.qcow2", "https://example.org/a/base.qcow2", DIGEST)
    cloud = BaseImage("cloud", "glance:demo/1-2", "glance:demo/1-2", DIGEST, "soe@20261120.1")
    digest = {"sha256": DIGEST}
    assert _base(file.facts()) == {"name": "base/base.qcow2", "digest": digest}
    assert _base(address.facts()) == {"name": "base/base.qcow2", "uri": address.source, "digest": digest}
    assert _base(cloud.facts()) == {
        "name": "base/1-2",
        "uri": "glance:demo/1-2",
        "digest": digest,
        "annotations": {"release": "soe@20261120.1"},
    }
    assert cloud.text == "glance:demo/1-2, which is soe@20261120.1, sha256:abababababab"


# -- identity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "etc/ssh/ssh_host_rsa_key",
        "srv/app/.ssh/authorized_keys",
        ".ssh",
        "root/.mysql_history",
        "var/lib/cloud/instances/i-1/obj.pkl",
        "tmp/new\nline",
        "lost+found",
        "swapfile",
        "etc/gshadow-",
    ],
)
def test_left_out(path: str) -> None:
    assert is_left_out(path)


@pytest.mark.parametrize(
    "path",
    ["etc/ssh/sshd_config", "var/lib/cloud", "tmp", "etc/sudoers.d/ours", "srv/ssh/x", "home/me/.sshx", "srv/tmp/x"],
)
def test_kept(path: str) -> None:
    assert not is_left_out(path)


@given(st.binary(max_size=200), st.sampled_from(["etc/shadow", "etc/gshadow"]))
def test_no_password_is_left_whatever_the_file(content: bytes, path: str) -> None:
    assert is_rewritten(path)
    for line in rewrite(path, content).splitlines():
        fields = line.split(b":")
        assert len(fields) < 2 or fields[1] in {b"!", b"*"}
    assert rewrite("etc/machine-id", content) == b""


@given(st.binary(max_size=200))
def test_only_passwords_are_altered(content: bytes) -> None:
    after = rewrite("etc/shadow", content).splitlines(keepends=True)
    for old, new in zip(content.splitlines(keepends=True), after, strict=True):
        assert (old.split(b":")[:1], old.split(b":")[2:]) == (new.split(b":")[:1], new.split(b":")[2:])
