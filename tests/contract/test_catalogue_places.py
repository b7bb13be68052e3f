"""Catalogues as places where releases live on channels and are retired, on a host with fakes for slow programs. The
judge is the client that everybody has."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from imagefactory.errors import (
    Busy,
    CatalogueConflict,
    CatalogueUninitialised,
    CatalogueUnusable,
    ReleaseUnknown,
    StateConflict,
)
from imagefactory.factory import hands
from imagefactory.factory.catalogue_places import CataloguePlaces, Intent
from imagefactory.factory.catalogues import Catalogues
from imagefactory.model.lifecycle import Stage
from imagefactory.model.listing import Listing, ListingState
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.progress import Advance
from imagefactory.store.records import release_version
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.catalogue import Catalogue
from imagefactory.tools.hand import call_signer
from imagefactory.tools.tuf_client import CatalogueClient
from signing.manifest import MANIFEST_FILE
from tests.contract.shell import Shell
from tests.contract.test_catalogue_keep import Killed, On
from tests.fakes.host import FakeHost, folders

NAME = "fake-debian-12"


class Bench:
    """A host and one of its catalogues; `signed` is what the signer was asked for."""

    def __init__(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.signed = host, list[str]()
        self.root = host.settings.catalogue
        self.catalogues = Catalogues(host.settings, host.home / "trust.json")
        self.places = CataloguePlaces(self.catalogues)
        monkeypatch.setattr(hands, "call_signer", self._call)

    def _call(
        self, request: Mapping[str, Any], *, environment: Mapping[str, str], log: Path, on_advance: Advance
    ) -> dict[str, Any]:
        self.signed.append(request["action"])
        return call_signer(request, environment=environment, log=log, on_advance=on_advance)

    @contextmanager
    def signs(self, *actions: str) -> Iterator[None]:
        self.signed.clear()
        yield
        assert self.signed == list(actions)

    def intents(self) -> list[Intent]:
        """To offer every release, oldest first."""
        with self.host.factory() as factory:
            releases = factory.records.releases(NAME)
        return [
            Intent(NAME, release_version(each), each.files[MANIFEST_FILE], Stage.ACTIVE) for each in reversed(releases)
        ]

    def listed(self) -> dict[Version, Listing]:
        known = self.host.settings.known_catalogue(self.root)
        with CatalogueClient(known.address, known.store) as client:
            return {each.version: each for each in client.releases(NAME)}

    def build_another(self) -> None:
        self.host.offer({"openssl": "3.0.17-2", "bash": "5.2.15-2"}, in_release="second")
        self.host.build()


@pytest.fixture
def bench(built: FakeHost, on: On, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(on(built), monkeypatch)


def retire(intent: Intent, stage: Stage, instead: Intent | None = None, reason: str | None = None) -> Intent:
    return Intent(
        intent.name, intent.version, intent.manifest, stage, "stable", instead.ref if instead else None, reason
    )


# -- stages -----------------------------------------------------------------------------------------------------------


def test_from_the_first_stage_to_the_last(bench: Bench) -> None:
    """Signed once for all that changes, and nothing if nothing does."""
    bench.build_another()
    old, new = bench.intents()
    with bench.signs():
        assert bench.places.settle(bench.root, [new, old]).done == (new.ref, old.ref)
    for again in (False, True):
        with bench.signs(*([] if again else ["relist"])):
            settled = bench.places.settle(bench.root, [new, retire(old, Stage.DEPRECATED, new)])
        assert (settled.done, settled.left) == ((new.ref, old.ref), {})
        found = bench.listed()
        assert [(each.state, each.replacement) for each in found.values()] == [
            (ListingState.DEPRECATED, new.ref),
            (ListingState.CURRENT, None),
        ]
    with bench.signs():
        bench.places.settle(bench.root, [retire(old, Stage.OBSOLETE, new)])
    with bench.signs("relist"):
        bench.places.settle(bench.root, [retire(new, Stage.DEPRECATED, old), old])
    assert [each.state for each in bench.listed().values()] == ["current", "deprecated"], "taken back"
    for again in (False, True):
        with bench.signs(*([] if again else ["relist"])):
            settled = bench.places.settle(bench.root, [new, retire(old, Stage.DELETED, new)])
        assert (settled.done, settled.left) == ((new.ref, old.ref), {})
        assert (bench.listed()[old.version].reason, bench.listed()[old.version].replacement) == ("retired", new.ref)
        assert [path.name for path in folders(bench.root)] == [str(new.version)]
    assert bench.listed()[new.version].state == ListingState.CURRENT


def test_what_was_revoked_stays_so(bench: Bench) -> None:
    """With its reason; a deprecation is less than that, and to be offered again is refused."""
    (only,) = bench.intents()
    with bench.signs("relist"):
        bench.places.settle(bench.root, [retire(only, Stage.OBSOLETE, reason="leaks a key")])
    with bench.signs():
        for stage in (Stage.DEPRECATED, Stage.OBSOLETE):
            assert not bench.places.settle(bench.root, [retire(only, stage)]).left
            assert not bench.places.settle(bench.root, [retire(only, stage, reason="another")]).left
        left = bench.places.settle(bench.root, [only]).left
        assert isinstance(left[only.ref], StateConflict)
        bench.places.settle(bench.root, [retire(only, Stage.DELETED)])
    assert bench.listed()[only.version].reason == "leaks a key"
    assert folders(bench.root) == []
    later = Intent(only.name, only.version, only.manifest, Stage.DELETED, replacement=ReleaseRef("soe", only.version))
    with bench.signs("relist"):
        bench.places.settle(bench.root, [later])
    found = bench.listed()[only.version]
    assert (found.reason, found.replacement) == ("leaks a key", later.replacement), "what to use instead may be told"


def test_one_that_cannot_be_settled_stops_no_other(bench: Bench) -> None:
    bench.build_another()
    old, new = bench.intents()
    unlisted = Intent(NAME, Version(20991231, 1), "0" * 64, Stage.ACTIVE)
    (bench.root / "targets" / NAME / str(new.version) / MANIFEST_FILE).write_bytes(b"of somebody else")
    with bench.signs("relist"):
        settled = bench.places.settle(bench.root, [retire(new, Stage.DELETED), unlisted, retire(old, Stage.DEPRECATED)])
    assert settled.done == (old.ref,)
    assert {ref: type(why) for ref, why in settled.left.items()} == {
        new.ref: CatalogueConflict,
        unlisted.ref: ReleaseUnknown,
    }
    assert [each.state for each in bench.listed().values()] == ["deprecated", "current"]
    assert len(folders(bench.root)) == 2, "nothing of somebody else's is removed"


def test_what_is_not_listed_has_only_to_go(bench: Bench) -> None:
    unlisted = Intent(NAME, Version(20991231, 1), "0" * 64, Stage.DELETED)
    with bench.signs():
        assert bench.places.settle(bench.root, [unlisted]).done == (unlisted.ref,)


def test_a_catalogue_that_is_not_there_is_no_catalogue_without_releases(bench: Bench, tmp_path: Path) -> None:
    """It may be away, and offer the release to everybody: nothing is taken for done."""
    (only,) = bench.intents()
    (bench.root / "metadata").rename(tmp_path / "metadata")
    with bench.signs(), pytest.raises(CatalogueUninitialised):
        bench.places.settle(bench.root, [retire(only, Stage.DELETED)])
    assert len(folders(bench.root)) == 1
    bench.root.rename(tmp_path / "away")
    with bench.signs(), pytest.raises(CatalogueUninitialised):
        bench.places.settle(bench.root, [retire(only, Stage.DELETED)])


def test_killed_before_the_folder_goes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = bench.intents()

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "withdraw", killed)
        with pytest.raises(Killed):
            bench.places.settle(bench.root, [retire(only, Stage.DELETED)])
    assert bench.listed()[only.version].state == ListingState.REVOKED
    assert len(folders(bench.root)) == 1
    with bench.signs():
        assert bench.places.settle(bench.root, [retire(only, Stage.DELETED)]).done == (only.ref,)
    assert folders(bench.root) == []


@pytest.mark.parametrize("error", [Busy, CatalogueUnusable])
def test_a_folder_that_does_not_go_is_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    (only,) = bench.intents()

    def stuck(*_: object) -> None:
        raise error("not now")

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "withdraw", stuck)
        settled = bench.places.settle(bench.root, [retire(only, Stage.DELETED)])
    assert (settled.done, [type(why) for why in settled.left.values()]) == ((), [error])
    assert bench.places.settle(bench.root, [retire(only, Stage.DELETED)]).done == (only.ref,)
    assert folders(bench.root) == []


# -- channels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def candidate(bench: Bench) -> Intent:
    """The one release of a catalogue, on the channel `candidate`."""
    (only,) = bench.intents()
    other = bench.host.root / "other"
    shutil.copytree(bench.root / "targets", other / "targets", ignore=shutil.ignore_patterns("*.json", ".*"))
    shutil.copytree(folders(bench.root)[0], folders(other)[0], dirs_exist_ok=True)
    bench.root = other
    assert bench.catalogues.list_release(other, only.ref, "candidate").begun
    return only


def test_a_channel_is_asked_for(bench: Bench, candidate: Intent, shell: Shell, tmp_path: Path) -> None:
    where, ref = f"catalogue:{bench.root}/{NAME}", str(candidate.ref)
    assert shell.refused("verify", where) == (1, "release-unknown")
    assert shell.refused("fetch", NAME, "--catalogue", bench.root, "--output", tmp_path) == (1, "release-unknown")
    for target, more in ((where, ["--channel", "candidate"]), (f"{where}@{candidate.version}", [])):
        status, said = shell.text("verify", target, *more)
        assert (status, said.splitlines()[0]) == (0, f"VERIFIED {ref}")
    assert "current on candidate" in shell.text("verify", where, "--channel", "candidate", "--explain")[1]
    status, done = shell.json("fetch", NAME, "--channel", "candidate", "--catalogue", bench.root, "--output", tmp_path)
    assert (status, done["release"]) == (0, ref)
    assert shell.json("fetch", ref, "--catalogue", bench.root, "--output", tmp_path)[1]["fetched"] == 0
    assert shell.refused("verify", where, "--channel", "nightly") == (1, "release-unknown")
    assert shell.json("catalogue", "list", bench.root)[1]["releases"][0]["channel"] == "candidate"
    assert "candidate" in shell.text("catalogue", "list", bench.root)[1]


def test_where_a_channel_means_nothing(bench: Bench, candidate: Intent, shell: Shell, tmp_path: Path) -> None:
    channel = ("--channel", "candidate")
    exact = f"catalogue:{bench.root}/{candidate.ref}"
    for verb in ("verify", "boot"):
        for target in (exact, tmp_path / "image.qcow2", "glance:demo/soe"):
            assert shell.refused(verb, target, *channel) == (2, "usage"), target
    assert shell.refused("fetch", str(candidate.ref), *channel, "--catalogue", bench.root) == (2, "usage")


def test_it_goes_to_stable_and_stays_there(bench: Bench, candidate: Intent, shell: Shell) -> None:
    stable = Intent(NAME, candidate.version, candidate.manifest, Stage.ACTIVE, "stable")
    assert bench.catalogues.list_release(bench.root, candidate.ref).written == (), "it keeps its channel"
    for again in (False, True):
        with bench.signs(*([] if again else ["relist"])):
            assert bench.places.settle(bench.root, [stable]).done == (stable.ref,)
    assert shell.json("verify", f"catalogue:{bench.root}/{NAME}")[0] == 0
    back = Intent(NAME, candidate.version, candidate.manifest, Stage.ACTIVE, "candidate")
    assert isinstance(bench.places.settle(bench.root, [back]).left[back.ref], StateConflict)
    with pytest.raises(StateConflict):
        bench.catalogues.list_release(bench.root, candidate.ref, "candidate")
    assert bench.catalogues.list_release(bench.root, candidate.ref, "stable").written == ()
    told = [
        (entry.event, entry.details["channel"])
        for entry in AuditLog(bench.host.settings.audit).entries()
        if entry.details.get("catalogue") == str(bench.root) and entry.event in {"listed", "relisted"}
    ]
    assert told == [("listed", "candidate"), ("relisted", "stable")]


def test_who_revokes_is_not_stopped_by_a_channel(bench: Bench, candidate: Intent) -> None:
    """Whatever the records hold for its channel."""
    bench.places.settle(bench.root, [Intent(NAME, candidate.version, candidate.manifest, Stage.ACTIVE, "stable")])
    revoked = Intent(NAME, candidate.version, candidate.manifest, Stage.OBSOLETE, "candidate", reason="leaks a key")
    assert bench.places.settle(bench.root, [revoked]).done == (revoked.ref,)
    found = bench.listed()[candidate.version]
    assert (found.state, found.channel, found.reason) == (ListingState.REVOKED, "stable", "leaks a key")
