"""Any sequence of operations, by publishers who may be killed in the middle: the catalogue says what a simple model of
it says, to clients who come for the first time and to those who have been there before."""

import os
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from imagefactory.errors import CatalogueConflict, ReleaseUnknown, StateConflict
from imagefactory.model.listing import TRUST_POLICY, Listing, ListingState, Relisting
from imagefactory.model.release import ReleaseRef
from imagefactory.tools import tuf_files
from imagefactory.tools.tuf_repository import TufRepository
from tests.unit.tuf_world import Client, Killed, Ring, dying, manifest, moment, release, trust_file

LISTINGS = [release(name, number) for name in ("a", "soe-debian-12", "x-0") for number in (1, 2)]
REFS = [each.ref for each in LISTINGS]
POLICIES = [trust_file() for _ in range(2)]
Seen = dict[str, Listing | bytes]
"""Releases by NAME@VERSION, and the trust policy under the name of its target."""


def look(client: Client) -> Seen:
    policy = client.trust()
    return {**client.see(REFS), **({} if policy is None else {TRUST_POLICY: policy})}


class Publishers(RuleBasedStateMachine):
    """What they do, and beside it what should be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)  # nobody pulls a plug here
        self.ring, self.now = Ring(), moment()
        self.root = self.newest = self.ring.first(self.now)
        self.expected: Seen = {}

    @initialize()
    def create(self) -> None:
        self.repository.create(self.now)
        self.client = Client(self.top / "catalogue", self.root, self.top / "client")

    @property
    def repository(self) -> TufRepository:
        """Somebody new each time: nothing is remembered but what is on the disk."""
        return TufRepository(self.top / "catalogue", self.root, self.ring.online)

    def look(self, root: bytes) -> Seen:
        """What somebody sees who has never been here."""
        with TemporaryDirectory() as memory:
            return look(Client(self.top / "catalogue", root, Path(memory)))

    def attempt(self, act: Callable[[], object], after: Seen, death: tuple[int, bool] | None) -> bool:
        """Do it, or be killed doing it. Returns whether the catalogue says `after` then."""
        if death is None:
            act()
            self.expected = after
            return True
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tuf_files, "write_file", dying(tuf_files.write_file, *death))
            try:
                act()
            except Killed:
                seen = self.look(self.root)
                assert seen in (self.expected, after)
                self.expected = seen
                return False
        self.expected = after
        return True

    def listing(self, ref: ReleaseRef) -> Listing | None:
        found = self.expected.get(str(ref))
        assert not isinstance(found, bytes)
        return found

    deaths = st.none() | st.tuples(st.integers(0, 5), st.booleans())

    @rule(listing=st.sampled_from(LISTINGS), death=deaths)
    def publish(self, listing: Listing, death: tuple[int, bool] | None) -> None:
        known = self.listing(listing.ref)
        after = {**self.expected, str(listing.ref): listing}
        if known is not None and known.state != ListingState.CURRENT:
            with pytest.raises(StateConflict):
                self.repository.list_release(listing, manifest(listing.ref), self.now)
            return
        self.attempt(lambda: self.repository.list_release(listing, manifest(listing.ref), self.now), after, death)

    @rule(listing=st.sampled_from(LISTINGS))
    def publish_something_else(self, listing: Listing) -> None:
        if str(listing.ref) in self.expected:
            with pytest.raises(CatalogueConflict):
                self.repository.list_release(listing, b"{}", self.now)

    @rule(
        ref=st.sampled_from(REFS),
        state=st.sampled_from(ListingState),
        replacement=st.none() | st.sampled_from(REFS),
        death=deaths,
    )
    def relist(
        self, ref: ReleaseRef, state: ListingState, replacement: ReleaseRef | None, death: tuple[int, bool] | None
    ) -> None:
        if replacement == ref or state == ListingState.CURRENT:
            replacement = None
        reason = "Größe: wrong" if state == ListingState.REVOKED else None
        known = self.listing(ref)
        if known is None or (known.state == ListingState.REVOKED and state != ListingState.REVOKED):
            with pytest.raises(ReleaseUnknown if known is None else StateConflict):
                self.repository.relist([Relisting(ref, state, replacement, reason)], self.now)
            return
        after = {**self.expected, str(ref): known.moved(state, replacement, reason)}
        self.attempt(
            lambda: self.repository.relist([Relisting(ref, state, replacement, reason)], self.now), after, death
        )

    @rule(policy=st.sampled_from(POLICIES), death=deaths)
    def set_trust(self, policy: bytes, death: tuple[int, bool] | None) -> None:
        after = {**self.expected, TRUST_POLICY: policy}
        self.attempt(lambda: self.repository.set_trust(policy, self.now), after, death)

    @rule(death=deaths)
    def refresh(self, death: tuple[int, bool] | None) -> None:
        self.attempt(lambda: self.repository.refresh(self.now), self.expected, death)

    @rule(purposes=st.sets(st.sampled_from(["root", "targets", "freshness"])), death=deaths)
    def replace_keys(self, purposes: set[str], death: tuple[int, bool] | None) -> None:
        fresh = Ring()
        new = Ring(
            fresh.roots if "root" in purposes else self.ring.roots,
            fresh.targets if "targets" in purposes else self.ring.targets,
            fresh.freshness if "freshness" in purposes else self.ring.freshness,
        )
        following = self.ring.followed_by(new, self.newest, self.now)
        both = TufRepository(self.top / "catalogue", self.root, (*self.ring.online, *new.online))
        if not self.attempt(lambda: both.publish_root(following, self.now), self.expected, death):
            both.publish_root(following, self.now)
        self.ring, self.newest = new, following

    @invariant()
    def everybody_sees_the_same(self) -> None:
        assert self.look(self.root) == self.look(self.newest) == look(self.client) == self.expected

    def teardown(self) -> None:
        self.patch.undo()
        rmtree(self.top)


TestPublishers = Publishers.TestCase
TestPublishers.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
