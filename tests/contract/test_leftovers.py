"""Whoever carries or fetches releases may be killed anywhere: whoever comes next finishes, and takes away what is left.

"Anywhere" is before each change of a file or a directory, as Python's audit hooks tell it: a few of them here, and all
of them for `make soak`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imagefactory.model.release import ReleaseRef
from imagefactory.steps.bundle import export, import_, leftovers
from imagefactory.steps.fetch import fetch
from imagefactory.steps.listed import format_of, listed_release, verify_listed
from imagefactory.steps.verify import Expectation
from imagefactory.tools import scratch
from imagefactory.tools.known_catalogue import KnownCatalogue, known_catalogue
from tests.fakes.shelf import Shelf
from tests.unit.signing.builders import IMAGES, NAME, NOW, VERSION, Keys, make_folder, make_keys

REF = ReleaseRef.parse(f"{NAME}@{VERSION}")
EXPECTED = Expectation(None, NOW)
CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a busy disk would take minutes, and for the dead to be dead for a while as well."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(scratch, "SETTLING", 0.0)


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("signers"))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, signers: Keys) -> Shelf:
    root = tmp_path_factory.mktemp("shelf")
    make_folder(root / "files", signers)
    made = Shelf(root / "catalogue", signers.trust_file.read_bytes())
    made.add(root / "files", signers.trust)
    return made


@dataclass(frozen=True)
class Island:
    """A directory, and what somebody does there again and again."""

    place: Path
    shelf: Shelf

    @property
    def there(self) -> KnownCatalogue:
        return known_catalogue(self.place / "there", self.place / "trusted there", [self.shelf.root_file])

    @property
    def known(self) -> KnownCatalogue:
        return self.shelf.known(self.place / "trusted")

    def export(self) -> None:
        (self.place / "bundle.tar").unlink(missing_ok=True)
        export(self.known, [REF], self.place / "bundle.tar", EXPECTED)

    def import_(self) -> None:
        import_(self.shelf.root.with_name("bundle.tar"), self.there, EXPECTED)

    def fetch(self) -> None:
        listed = listed_release(self.known, REF, EXPECTED)
        signed = listed.verified()
        (self.place / "image").unlink(missing_ok=True)
        fetch(listed, signed, format_of(signed, None), self.place / "image", on_advance=lambda *_: None)


DONE: dict[str, set[str]] = {
    "export": {"bundle.tar", "trusted"},
    "import_": {"there", "trusted there"},
    "fetch": {"image", "trusted"},
}


def killed_before(nth: int, place: Path, act: Callable[[], object]) -> bool:
    """Do something in another process, and kill that before its change number `nth` of what is below `place`. Whether
    there were so many."""
    child = os.fork()
    if not child:
        left = nth

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if not _is_change(event, arguments, str(place)):
                return
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        sys.addaudithook(watch)
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def _is_change(event: str, arguments: tuple[object, ...], place: str) -> bool:
    if event == "open":
        flags = arguments[2]
        return (
            isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and str(arguments[0]).startswith(place)
        )
    return event in CHANGES and any(str(each).startswith(place) for each in arguments)


def hidden(place: Path) -> list[str]:
    found = (str(path.relative_to(place)) for path in place.rglob(".*"))
    return sorted(name for name in found if not name.endswith(".lock"))


def check(island: Island, verb: str) -> None:
    """One who is not disturbed finds nothing of the others in his way, and leaves nothing."""
    getattr(island, verb)()
    assert {path.name for path in island.place.iterdir()} == DONE[verb]
    assert hidden(island.place) == []
    if verb == "import_":
        assert verify_listed(replace(island.there, roots=()), REF, EXPECTED).release == str(REF)
    if verb == "fetch":
        assert (island.place / "image").read_bytes() == IMAGES["qcow2"]


@pytest.fixture
def island(tmp_path: Path, shelf: Shelf) -> Island:
    bundle = shelf.root.with_name("bundle.tar")
    if not bundle.exists():
        export(shelf.known(tmp_path / "first"), [REF], bundle, EXPECTED)
    (tmp_path / "place").mkdir()
    return Island(tmp_path / "place", shelf)


def moments(act: Callable[[int], bool], step: int) -> Iterator[int]:
    nth = 0
    while act(nth):
        yield nth
        nth += step


@pytest.mark.parametrize("verb", DONE)
def test_killed_now_and_then(island: Island, verb: str) -> None:
    """One after the other is killed, later each time; then one is not."""
    rounds = 0
    for _ in moments(lambda nth: killed_before(nth, island.place, getattr(island, verb)), 7):
        rounds += 1
    assert rounds >= 1
    check(island, verb)


@pytest.mark.soak
@pytest.mark.parametrize("verb", DONE)
def test_killed_anywhere(island: Island, verb: str) -> None:
    for _ in moments(lambda nth: killed_before(nth, island.place, getattr(island, verb)), 1):
        check(island, verb)


def test_what_is_left_of_an_import_that_never_comes_again(island: Island) -> None:
    """It can be seen, and be removed; what somebody is working in stays."""
    place = island.place
    assert killed_before(12, place, island.import_)
    target = place / "there"
    assert [path.parent for path in leftovers(target)] == [place]
    with scratch.scratch(place, ".there.import-") as alive:
        assert alive not in leftovers(target)
        island.import_()
        assert hidden(place) == [alive.name]
    assert hidden(place) == []
