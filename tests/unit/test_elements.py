"""Elements as files that root will run: their digests, and who may write to them."""

import os
from pathlib import Path

import pytest

from imagefactory.errors import ElementsConflict, ElementsUnsafe
from imagefactory.tools.elements import digests, expand, require_safe, search_path, shipped_elements


@pytest.fixture
def element(tmp_path: Path) -> Path:
    """An element with one script, in a folder of elements."""
    element = tmp_path / "elements" / "mine"
    (element / "install.d").mkdir(parents=True)
    script = element / "install.d" / "50-mine"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return element


def check(element: Path) -> None:
    require_safe({element.name: element}, [element.parent])


def digest(element: Path) -> str:
    return digests({element.name: element})[element.name]


def test_the_target_of_a_link_counts(element: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("one")
    (element / "install.d/60-link").symlink_to(tmp_path / "target")
    before = digest(element)
    (tmp_path / "target").write_text("two")
    assert digest(element) != before


def test_a_link_that_leads_nowhere_has_a_digest_too(element: Path) -> None:
    before = digest(element)
    (element / "install.d/60-link").symlink_to("nowhere")
    assert digest(element) != before


def test_a_link_to_a_directory_is_refused(element: Path, tmp_path: Path) -> None:
    (element / "root.d").symlink_to(tmp_path)
    with pytest.raises(ElementsConflict, match="link to a directory"):
        digest(element)


def test_a_folder_called_pycache_on_the_way_hides_nothing(element: Path, tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    moved = element.rename(tmp_path / "__pycache__" / "mine")
    before = digest(moved)
    (moved / "install.d/50-mine").write_text("other")
    assert digest(moved) != before


def test_elements_that_only_their_owner_writes_to_are_safe(element: Path) -> None:
    check(element)
    (element / "install.d").chmod(0o775)  # of a group
    check(element)


@pytest.mark.parametrize("part", ["..", ".", "install.d", "install.d/50-mine", "../.."])
def test_what_everybody_may_write_to_is_refused(element: Path, part: str) -> None:
    (element / part).chmod(0o777)
    with pytest.raises(ElementsUnsafe, match="everybody may write to") as caught:
        check(element)
    assert (caught.value.code, caught.value.exit_code) == ("elements-unsafe", 3)


@pytest.mark.parametrize("part", ["..", "."])
def test_the_sticky_bit_does_not_help_an_element(element: Path, part: str) -> None:
    (element / part).chmod(0o1777)
    with pytest.raises(ElementsUnsafe):
        check(element)


def test_the_sticky_bit_helps_a_folder_above(element: Path) -> None:
    element.parent.parent.chmod(0o1777)
    check(element)


def test_a_link_is_as_safe_as_where_it_leads(element: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    (element / "install.d/60-link").symlink_to(target)
    check(element)
    target.chmod(0o666)
    with pytest.raises(ElementsUnsafe):
        check(element)


@pytest.mark.parametrize("where", ["nowhere", "60-link"])
def test_what_cannot_be_looked_at_is_refused(element: Path, where: str) -> None:
    (element / "install.d/60-link").symlink_to(where)
    with pytest.raises(ElementsUnsafe, match="cannot be looked at"):
        check(element)


def test_another_owner_is_refused(element: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        os.chown(element / "install.d/50-mine", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ElementsUnsafe, match="belongs to neither root nor the caller"):
        check(element)


def test_what_is_installed_with_the_program_is_as_safe_as_it_is() -> None:
    path = search_path(Path("/nowhere/recipe.yaml"), ())
    assert shipped_elements().resolve() in path
    require_safe(expand(["soe-base"], path), path)
