"""An image comes out of a catalogue as it was signed, or not at all; what broke off goes on where it was."""

import fcntl
import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from imagefactory.errors import (
    Busy,
    CatalogueUnreachable,
    DiskFull,
    FactoryError,
    FormatUnsupported,
    OutputExists,
    OutputUnusable,
)
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.fetch import Fetched, fetch
from imagefactory.steps.listed import format_of, listed_release
from imagefactory.steps.verify import Expectation
from imagefactory.tools import catalogue_files
from imagefactory.tools.known_catalogue import KnownCatalogue
from signing.errors import SigningError
from tests.fakes.shelf import Shelf
from tests.fakes.tuf_site import Site, Talk, answer, dripping_headers, endless, saying, silence
from tests.unit.signing.builders import IMAGES, NAME, NOW, STEM, VERSION

IMAGE = IMAGES["qcow2"]
SIZE = len(IMAGE)
PATH = f"/catalogue/targets/{NAME}/{VERSION}/{STEM}.qcow2"
pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture
def web(shelf: Shelf, site: Site, tmp_path: Path) -> KnownCatalogue:
    return shelf.known(tmp_path / "trusted", site.url)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where images are wanted."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def get(known: KnownCatalogue, output: Path, wanted: str | None = None, seen: list[int] | None = None) -> Fetched:
    listed = listed_release(known, ReleaseRef(NAME), Expectation(None, NOW))
    signed = listed.verified()
    heard = [] if seen is None else seen
    return fetch(listed, signed, format_of(signed, wanted), output, on_advance=lambda done, _: heard.append(done))


def part_of(output: Path, image: bytes = IMAGE) -> Path:
    return output.with_name(f".{output.name}.{sha256(image).hexdigest()[:16]}.part")


def refused(call: Callable[[], object]) -> str:
    """The code of the error."""
    try:
        call()
    except (FactoryError, SigningError) as error:
        return str(error.code)
    raise AssertionError("nobody refused that")


# -- what is good ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["directory", "web"])
@pytest.mark.parametrize("kind", [None, *IMAGES])
def test_an_image(
    shelf: Shelf, request: pytest.FixtureRequest, tmp_path: Path, home: Path, over: str, kind: str | None
) -> None:
    where = request.getfixturevalue("site").url if over == "web" else shelf.root
    known, seen = shelf.known(tmp_path / "trusted", where), list[int]()
    image, output = IMAGES[kind or "qcow2"], home / "image"
    done = get(known, output, kind, seen)
    assert output.read_bytes() == image
    assert (done.path, done.came, seen[-1]) == (output, len(image), len(image))
    assert [path.name for path in home.iterdir()] == ["image"]
    assert output.stat().st_mode & 0o777 == 0o644
    before = output.stat()
    again = get(known, output, kind, seen)
    assert (again.came, output.stat()) == (0, before)


def test_a_second_time_nothing_is_downloaded(web: KnownCatalogue, site: Site, home: Path) -> None:
    get(web, home / "image")
    site.asked.clear()
    get(web, home / "image")
    assert PATH not in site.asked


def test_a_format_that_is_not_there(web: KnownCatalogue, home: Path) -> None:
    with pytest.raises(FormatUnsupported, match="has no vmdk, only qcow2, raw, iso"):
        get(web, home / "image", "vmdk")


def test_something_else_is_there(web: KnownCatalogue, home: Path) -> None:
    for content in (b"", IMAGE[::-1], IMAGE + b"x"):
        (home / "image").write_bytes(content)
        with pytest.raises(OutputExists, match="exists, and is another file"):
            get(web, home / "image")
        assert (home / "image").read_bytes() == content
    (home / "image").write_bytes(IMAGES["raw"])
    with pytest.raises(OutputExists, match="another format of this release"):
        get(web, home / "image")
    (home / "image").unlink()
    (home / "image").symlink_to("/dev/null")
    assert refused(lambda: get(web, home / "image")) == "not-a-regular-file"
    assert refused(lambda: get(web, home / "no/such/place")) == "output-unusable"


def test_an_image_that_others_may_change(web: KnownCatalogue, home: Path) -> None:
    """It is the right one now, and may be another as soon as it was verified."""
    output = home / "image"
    output.write_bytes(IMAGE)
    for mode, owner in ((0o666, os.geteuid()), (0o664, os.geteuid()), (0o644, 65534)):
        output.chmod(mode)
        os.chown(output, owner, -1)
        with pytest.raises(OutputExists, match="others may write to it"):
            get(web, output)
    os.chown(output, os.geteuid(), -1)
    assert get(web, output).came == 0


# -- what broke off ----------------------------------------------------------------------------------------------------


def cut(at: int) -> Talk:
    """As much of the image as this, and then nothing more."""

    def talk(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(SIZE))
        handler.end_headers()
        handler.wfile.write(IMAGE[:at])

    return talk


@pytest.mark.parametrize("at", [1, 5000, SIZE - 1])
def test_a_download_that_broke_off_goes_on(web: KnownCatalogue, site: Site, home: Path, at: int) -> None:
    site.instead[PATH] = cut(at)
    assert refused(lambda: get(web, home / "image")) == "catalogue-unreachable"
    assert not (home / "image").exists()
    assert part_of(home / "image").read_bytes() == IMAGE[:at]
    site.instead.clear()
    seen = list[int]()
    assert get(web, home / "image", seen=seen).came == SIZE - at
    assert site.parts == [f"bytes={at}-"]
    assert seen[0] == at, "what is there is hashed again"
    assert (home / "image").read_bytes() == IMAGE
    assert [path.name for path in home.iterdir()] == ["image"]


def test_a_server_that_cannot_begin_in_the_middle(web: KnownCatalogue, site: Site, home: Path) -> None:
    site.instead[PATH] = cut(5000)
    refused(lambda: get(web, home / "image"))
    site.instead.clear()
    site.ranges = False
    assert get(web, home / "image").came == SIZE
    assert site.parts == ["bytes=5000-"]
    assert (home / "image").read_bytes() == IMAGE


def test_all_of_it_is_there_already(web: KnownCatalogue, site: Site, home: Path) -> None:
    """Somebody was killed before it had its name."""
    part_of(home / "image").touch(0o600)
    part_of(home / "image").write_bytes(IMAGE)
    assert get(web, home / "image").came == 0
    assert PATH not in site.asked
    assert (home / "image").read_bytes() == IMAGE


@pytest.mark.parametrize("there", [b"x" * 5000, b"x" * SIZE, b"x" * (SIZE + 1)], ids=["begun", "whole", "longer"])
def test_a_beginning_of_something_else_is_worth_nothing(web: KnownCatalogue, home: Path, there: bytes) -> None:
    part_of(home / "image").touch(0o600)
    part_of(home / "image").write_bytes(there)
    if len(there) <= SIZE:
        assert refused(lambda: get(web, home / "image")) == "digest-mismatch"
        assert list(home.iterdir()) == []
    assert get(web, home / "image").came == SIZE
    assert (home / "image").read_bytes() == IMAGE


def test_a_beginning_that_somebody_else_could_write_to(web: KnownCatalogue, home: Path) -> None:
    part = part_of(home / "image")
    part.touch()
    part.chmod(0o666)
    with pytest.raises(OutputUnusable, match="not a file that is ours alone"):
        get(web, home / "image")
    part.unlink()
    part.symlink_to(home / "victim")
    assert refused(lambda: get(web, home / "image")) == "output-unusable"
    assert not (home / "victim").exists()


def test_two_at_once(web: KnownCatalogue, home: Path) -> None:
    part = part_of(home / "image")
    part.touch(0o600)
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Busy):
            get(web, home / "image")
    assert get(web, home / "image").came == SIZE


FETCHER = """
import sys
from pathlib import Path
from datetime import datetime
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.fetch import fetch
from imagefactory.steps.listed import format_of, listed_release
from imagefactory.steps.verify import Expectation
from imagefactory.tools.known_catalogue import known_catalogue
url, stores, name, now, output = sys.argv[1:]
expected = Expectation(None, datetime.fromisoformat(now))
listed = listed_release(known_catalogue(url, Path(stores)), ReleaseRef(name), expected)
signed = listed.verified()
fetch(listed, signed, format_of(signed, None), Path(output), on_advance=lambda done, _: print(done, flush=True))
"""


def test_whoever_is_killed_leaves_a_beginning(web: KnownCatalogue, site: Site, home: Path, tmp_path: Path) -> None:
    def stuck(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
        cut(5000)(handler, gone)
        gone.wait()

    get(web, tmp_path / "pins the root")
    site.instead[PATH] = stuck
    argv = [sys.executable, "-c", FETCHER, site.url, str(web.store.parent), NAME, NOW.isoformat(), str(home / "image")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"5000\n"
        other.send_signal(signal.SIGKILL)
    assert [path.name for path in home.iterdir()] == [part_of(home / "image").name]
    site.instead.clear()
    assert get(web, home / "image").came == SIZE - 5000
    assert (home / "image").read_bytes() == IMAGE


def test_a_beginning_of_another_image_goes_when_the_name_is_taken(web: KnownCatalogue, home: Path) -> None:
    """A release was fetched in part, and a newer one came. Whose owner lives stays, and so does what is not ours."""
    output, dead, alive = home / "image", part_of(home / "image", b"older"), part_of(home / "image", b"living")
    others = [home / ".image.part", home / f".other.{'0' * 16}.part"]
    for path in (dead, alive, *others):
        path.write_bytes(b"beginning")
    with alive.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        get(web, output)
        assert sorted(home.iterdir()) == sorted([alive, output, *others])
    get(web, output)
    assert sorted(home.iterdir()) == sorted([output, *others])


def test_a_full_disk(web: KnownCatalogue, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DiskFull):
            get(web, home / "image")
    assert not (home / "image").exists()
    assert get(web, home / "image").came == SIZE


# -- web servers that are not kind -------------------------------------------------------------------------------------


def more_in_pieces(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    """All of it and one byte more, without a length."""
    del gone
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(IMAGE + b"x")


def a_part_of_another(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
    del gone
    answer(handler, 206, b"x" * 10, Content_Range=f"bytes 0-9/{SIZE}")


UNKIND: dict[str, tuple[str, Talk]] = {
    "HTML": ("catalogue-mixed", saying(200, b"<html>welcome</html>", Content_Type="text/html")),
    "wrong length": ("catalogue-mixed", saying(200, IMAGE[:-1])),
    "more than was promised": ("catalogue-endless", more_in_pieces),
    "without end": ("catalogue-endless", endless),
    "another file": ("digest-mismatch", saying(200, b"x" * SIZE)),
    "another part": ("catalogue-mixed", a_part_of_another),
    "another part of that length": (
        "catalogue-mixed",
        saying(206, b"x" * (SIZE - 100), Content_Range=f"bytes 99-{SIZE - 2}/{SIZE}"),
    ),
    "nothing from there on": ("catalogue-unreachable", saying(416)),
    "compressed": ("catalogue-mixed", saying(200, gzip.compress(IMAGE), Content_Encoding="gzip")),
    "not found": ("catalogue-unreachable", saying(404)),
    "silence": ("catalogue-unreachable", silence),
}


@pytest.mark.parametrize("begun", [False, True], ids=["from the beginning", "going on"])
@pytest.mark.parametrize("talk", UNKIND)
def test_a_web_server_that_is_not_kind(
    web: KnownCatalogue, site: Site, home: Path, talk: str, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says, nothing but the image gets the name, and it comes when the server has come to its senses."""
    monkeypatch.setattr(catalogue_files, "PATIENCE", 1.0)
    output = home / "image"
    if begun:
        part_of(output).touch(0o600)
        part_of(output).write_bytes(IMAGE[:100])
    code, site.instead[PATH] = UNKIND[talk]
    if not begun and "another part" in talk:
        code = "catalogue-unreachable"  # nobody asked for one
    assert refused(lambda: get(web, output)) == code
    assert not output.exists()
    site.instead.clear()
    if part_of(output).exists() and part_of(output).read_bytes() != IMAGE[: part_of(output).stat().st_size]:
        assert refused(lambda: get(web, output)) == "digest-mismatch"
    get(web, output)
    assert output.read_bytes() == IMAGE


def test_a_redirection(web: KnownCatalogue, site: Site, shelf: Shelf, home: Path) -> None:
    """To another place of the web, where a mirror or an object store has it."""
    (shelf.root / "moved").write_bytes(IMAGE)
    part_of(home / "image").touch(0o600)
    part_of(home / "image").write_bytes(IMAGE[:100])
    site.instead[PATH] = saying(302, Location="/catalogue/moved")
    assert get(web, home / "image").came == SIZE - 100
    assert site.parts == ["bytes=100-"]


def test_a_server_that_is_too_slow(
    web: KnownCatalogue, site: Site, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never silent, and would take days: what has come is kept."""

    def slow(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
        cut(100)(handler, gone)
        for at in range(100, SIZE):
            if gone.wait(0.02):
                return
            handler.wfile.write(IMAGE[at : at + 1])

    monkeypatch.setattr(catalogue_files, "PATIENCE", 0.5)
    monkeypatch.setattr(catalogue_files, "SLOWEST", 1 << 30)
    site.instead[PATH] = slow
    assert refused(lambda: get(web, home / "image")) == "catalogue-unreachable"
    there = part_of(home / "image").read_bytes()
    assert IMAGE.startswith(there)
    assert len(there) >= 100


def test_how_long_a_file_is_takes_no_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes, so nothing but patience is spent on it."""
    monkeypatch.setattr(catalogue_files, "PATIENCE", 0.5)
    site.instead[PATH] = dripping_headers
    address = f"{site.url.removesuffix('/catalogue')}{PATH}"
    assert refused(lambda: catalogue_files.length(address)) == "catalogue-unreachable"
    site.instead.clear()
    assert catalogue_files.length(address) == SIZE


@pytest.mark.parametrize(
    "proxy", ["http://me:hunter2@127.0.0.1:1", "http://me:hunter2@[::1", "nonsense://me:hunter2@x"]
)
def test_the_password_of_a_proxy_is_not_repeated(site: Site, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setattr(catalogue_files, "PATIENCE", 20.0)
    monkeypatch.setenv("http_proxy", proxy)
    with (
        pytest.raises(CatalogueUnreachable) as told,
        catalogue_files.reading(f"{site.url.removesuffix('/catalogue')}{PATH}", SIZE),
    ):
        pass
    assert "hunter2" not in f"{told.value} {told.value.advice} {told.value.lines}"
    assert site.asked == []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with catalogue_files.reading(f"{site.url.removesuffix('/catalogue')}{PATH}", SIZE) as (_, stream):
        assert stream.read() == IMAGE


def test_a_proxy_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked for a whole address is one."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    site.instead["http://images.example.org/x"] = saying(200, IMAGE)
    with catalogue_files.reading("http://images.example.org/x", SIZE) as (_, stream):
        assert stream.read() == IMAGE
    assert site.asked == ["http://images.example.org/x"]
