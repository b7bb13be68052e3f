"""What somebody does with a catalogue who is not its maker: by the command line, on a machine of his own."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagefactory.store.records import release_version
from tests.contract.shell import Shell
from tests.fakes.host import FakeHost
from tests.fakes.tuf_site import Site, serving

NAME = "fake-debian-12"


@pytest.fixture
def site(built: FakeHost) -> Iterator[Site]:
    """The built-in catalogue of a factory, on the web."""
    with serving(built.home / "catalogue") as served:
        yield served


@pytest.fixture
def customer(
    on: Callable[[FakeHost], FakeHost], built: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Somebody's directory, with a home of his own and the root that he was given."""
    on(built)
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shutil.copy(built.home / "catalogue/metadata/1.root.json", tmp_path / "root.json")
    return tmp_path


def ref_of(built: FakeHost) -> str:
    with built.factory() as factory:
        (release,) = factory.records.releases()
        return f"{release.name}@{release_version(release)}"


def test_the_current_image_in_one_line(shell: Shell, customer: Path, site: Site, built: FakeHost) -> None:
    ref = ref_of(built)
    file = f"{ref.replace('@', '-')}.qcow2"
    assert shell.refused("fetch", NAME, "--catalogue", site.url) == (1, "catalogue-untrusted")
    status, text = shell.text("fetch", NAME, "--catalogue", site.url, "--root", "root.json")
    assert (status, text.splitlines()[0]) == (0, f"VERIFIED {ref}")
    assert f"  {file}  sha256:" in text
    assert "development keys" in text
    (image,) = built.home.glob(f"catalogue/targets/{NAME}/*/*.qcow2")
    assert (customer / file).read_bytes() == image.read_bytes()
    status, again = shell.json("fetch", ref, "--catalogue", f"{site.url}/")
    assert (status, again["fetched"], again["file"], again["format"]) == (0, 0, file, "qcow2")
    (customer / "images").mkdir()
    assert shell.json("fetch", NAME, "--catalogue", site.url, "--output", "images")[1]["file"] == f"images/{file}"
    assert shell.refused("fetch", NAME, "--catalogue", site.url, "--format", "raw") == (2, "format-unsupported")
    (customer / "taken").touch()
    assert shell.refused("fetch", NAME, "--catalogue", site.url, "--output", "taken") == (2, "output-exists")


@pytest.mark.parametrize("over", ["directory", "web"])
def test_what_a_catalogue_says(shell: Shell, customer: Path, site: Site, built: FakeHost, over: str) -> None:
    ref, where = ref_of(built), site.url if over == "web" else str(built.home / "catalogue")
    status, begun = shell.json("catalogue", "fetch", where, "--root", customer / "root.json")
    assert (status, begun["catalogue"], begun["names"]) == (0, where, [NAME])
    assert [role["role"] for role in begun["roles"]] == ["root", "timestamp", "snapshot", "targets"]
    assert Path(begun["trust_store"]).parent == customer / "home/trusted"
    assert "snapshot" in shell.text("catalogue", "fetch", where)[1]

    status, listed = shell.json("catalogue", "list", where)
    assert (status, [each["release"] for each in listed["releases"]]) == (0, [ref])
    assert listed["releases"][0]["state"] == "current"
    assert ref in shell.text("catalogue", "list", where, NAME)[1]
    assert shell.refused("catalogue", "list", where, "another") == (1, "release-unknown")

    status, text = shell.text("verify", f"catalogue:{where}/{NAME}", "--explain")
    assert status == 0
    assert f"listed by {where}, version " in text
    assert shell.json("verify", f"catalogue:{where}/{ref}")[1]["verified"]["warnings"] == []

    for options in ([], ["--deep"]):
        status, checked = shell.json("catalogue", "check", where, *options)
        assert (status, checked["releases"], checked["revoked"]) == (0, 1, 0)
    (image,) = built.home.glob(f"catalogue/targets/{NAME}/*/*.qcow2")
    image.write_bytes(image.read_bytes()[:-1])
    assert shell.refused("catalogue", "check", where) == (1, "catalogue-incomplete")
    status, found = shell.json("catalogue", "check", where)
    assert found["error"]["lines"][0].startswith(f"{ref}: ")


def test_what_becomes_of_a_release(
    shell: Shell, customer: Path, site: Site, built: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, target = ref_of(built), f"catalogue:{site.url}/{NAME}"
    assert shell.json("verify", target, "--root", customer / "root.json")[0] == 0

    def makers(*argv: str) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("IMAGEFACTORY_HOME", str(built.home))
            assert shell.json("catalogue", *argv)[0] == 0

    makers("deprecate", ref, "--replacement", f"{NAME}@20991231.1")
    status, proved = shell.json("verify", target)
    assert (status, proved["verified"]["warnings"]) == (
        0,
        [f"{ref} is deprecated; use {NAME}@20991231.1 instead"],
    )
    assert f"warning: {ref} is deprecated" in shell.stderr
    makers("revoke", ref, "--reason", "its openssl leaks keys")
    assert shell.refused("verify", target) == (1, "release-revoked")
    assert "its openssl leaks keys" in shell.stderr
    assert shell.refused("fetch", ref, "--catalogue", site.url) == (1, "release-revoked")
    assert shell.refused("boot", target) == (1, "release-revoked")
    status, checked = shell.json("catalogue", "check", site.url)
    assert (status, checked["releases"], checked["revoked"]) == (0, 0, 1)


def test_where_no_network_goes(shell: Shell, customer: Path, site: Site, built: FakeHost) -> None:
    ref = ref_of(built)
    status, packed = shell.json("catalogue", "export", site.url, "bundle.tar", NAME, "--root", "root.json")
    assert (status, packed) == (0, {"file": "bundle.tar", "releases": [ref]})
    assert shell.refused("catalogue", "export", site.url, "bundle.tar", NAME) == (2, "output-exists")
    assert shell.refused("catalogue", "import", "bundle.tar", "mirror") == (1, "catalogue-untrusted")
    assert not (customer / "mirror").exists()
    status, text = shell.text("catalogue", "import", "bundle.tar", "mirror", "--root", "root.json")
    assert (status, text) == (0, f"VERIFIED {ref} in {customer}/mirror\n")
    assert shell.json("verify", f"catalogue:mirror/{NAME}")[0] == 0
    assert json.dumps(shell.json("catalogue", "list", "mirror")[1]) == json.dumps(
        shell.json("catalogue", "list", site.url)[1]
    )
