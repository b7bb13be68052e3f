"""Where a catalogue is, and what this machine calls it."""

from pathlib import Path

import pytest

from imagefactory.errors import CatalogueUntrusted, ReleaseNameInvalid, TargetUnsupported
from imagefactory.model.release import ReleaseRef
from imagefactory.settings import read_settings
from imagefactory.tools.known_catalogue import address_of, known_catalogue, split_target


@pytest.mark.parametrize(
    ("text", "where", "ref"),
    [
        ("/srv/images/soe", "/srv/images", "soe"),
        ("/srv/soe@20251121.1", "/srv", "soe@20251121.1"),
        ("/soe", "/", "soe"),
        ("soe", ".", "soe"),
        ("a b/soe", "a b", "soe"),
        ("https://images.example.org/soe", "https://images.example.org", "soe"),
        ("http://[::1]:8080/a/b/soe@20251121.1", "http://[::1]:8080/a/b", "soe@20251121.1"),
    ],
)
def test_a_target(text: str, where: str, ref: str) -> None:
    assert split_target(text) == (where, ReleaseRef.parse(ref))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/srv/",
        "/srv/..",
        "/srv/A",
        "/srv/soe@",
        "/srv/soe@1",
        "/srv/debian\0",
        "http://soe",
        "https://x/",
        "http:///",
    ],
)
def test_no_target(text: str) -> None:
    with pytest.raises(ReleaseNameInvalid):
        split_target(text)


def test_one_catalogue_has_one_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("images", "./images/", f"{tmp_path}/images", f"{tmp_path}/other/../images", tmp_path / "images"):
        assert address_of(text) == f"{tmp_path}/images"
    for text in ("https://example.org/images", "https://example.org/images/", "https://example.org/images//"):
        assert address_of(text) == "https://example.org/images"
    stores = {known_catalogue(where, tmp_path).store.name for where in ("a", "./a", "b", "http://a", "http://a/")}
    assert len(stores) == 3
    assert {len(name) for name in stores} == {32}


@pytest.mark.parametrize(
    "where",
    ["", "a\0b", "ftp://example.org", "file:///srv", "http://", "https:///srv", "http://me:secret@example.org",
     "http://example.org?token=secret", "http://example.org/#x", "http://example.org:0/", "http://[::1", "http://a\nb"],
)  # fmt: skip
def test_no_address(where: str) -> None:
    with pytest.raises(TargetUnsupported) as refused:
        address_of(where)
    assert "secret" not in f"{refused.value.message} {refused.value.advice}"


def test_which_root_is_the_first_one(tmp_path: Path) -> None:
    settings = read_settings({"IMAGEFACTORY_HOME": str(tmp_path), "HOME": str(tmp_path)})
    known = settings.known_catalogue("/srv/images")
    with pytest.raises(CatalogueUntrusted, match=r"root in .*/root.json, /etc/imagefactory/root.json"):
        known.root()
    (tmp_path / "root.json").write_bytes(b"of the home")
    assert known.root() == b"of the home"
    (tmp_path / "named").write_bytes(b"named")
    assert settings.known_catalogue("/srv/images", tmp_path / "named").root() == b"named"
    known.store.mkdir(parents=True)
    (known.store / "pinned.root.json").touch()
    assert known.root() is None
    assert settings.known_catalogue("/srv/images", tmp_path / "named").root() == b"named"
    with pytest.raises(CatalogueUntrusted, match="cannot be read"):
        settings.known_catalogue("/srv/images", tmp_path / "missing").root()
