"""What a catalogue is to say of a release, by how it stands there; what publishing what is revoked would come to."""

import pytest

from imagefactory.errors import ReleaseDeleted, ReleaseRevoked, ReleaseUnknown, StateConflict
from imagefactory.factory.catalogue_places import RETIRED, Intent
from imagefactory.factory.keeping import _intent
from imagefactory.factory.publishing import require_publishable
from imagefactory.lifecycle.places import Order
from imagefactory.model.build import PublicationState
from imagefactory.model.lifecycle import Held, Stage, holder, look
from imagefactory.model.release import ReleaseRef
from imagefactory.store.records import release_version
from tests.fakes.places import DISPLAY, Shop

SHELF = "catalogue:/srv"


def intents(shop: Shop) -> list[Intent]:
    """Newest first."""
    rows = shop.ledger.standings("soe", SHELF)
    holding = holder([standing for _, _, standing in rows])
    return [
        _intent(Order(release, each, standing, look(standing, holding, DISPLAY))) for release, each, standing in rows
    ]


def test_what_is_only_older_is_as_good_as_before_and_need_not_be_listed(shop: Shop) -> None:
    shop.release(SHELF)
    shop.release(SHELF)
    new, old = intents(shop)
    assert (new.stage, new.required, old.stage, old.required) == (Stage.ACTIVE, True, Stage.ACTIVE, False)
    assert old.replacement is None
    assert old.change(None) is None
    with pytest.raises(ReleaseUnknown):
        new.change(None)


def test_what_is_held_back_names_what_to_use_instead(shop: Shop) -> None:
    old, new = shop.release(SHELF), shop.release(SHELF)
    shop.ledger.hold(new, Held.ROLLED_BACK, "broken", "ana", "rollback")
    shop.keeper().settle_everywhere("soe")
    first, second = intents(shop)
    assert (first.stage, first.reason) == (Stage.DEPRECATED, None)
    assert first.replacement == ReleaseRef("soe", release_version(old))
    assert second.stage is Stage.ACTIVE


def test_what_is_revoked_or_withdrawn_is_revoked_there_listed_or_not(shop: Shop) -> None:
    old, new = shop.release(SHELF), shop.release(SHELF)
    shop.ledger.hold(new, Held.REVOKED, "leaks", "ana", "revoke")
    there = shop.records.release(ReleaseRef("soe", release_version(old))).publications[0]
    shop.records.move_publication(there, PublicationState.WITHDRAWN)
    found = intents(shop)
    assert [each.reason for each in found] == ["leaks", RETIRED]
    assert [each.change(None) for each in found] == [None, None]


def test_what_is_revoked_or_deleted_is_not_published(shop: Shop) -> None:
    gone, bad = shop.release(SHELF), shop.release(SHELF)
    shop.ledger.hold(bad, Held.REVOKED, "leaks", "ana", "revoke")
    with pytest.raises(ReleaseRevoked, match="leaks"):
        require_publishable(bad, SHELF)
    kept = shop.records.release(ReleaseRef("soe", release_version(gone)))
    require_publishable(kept, SHELF)
    (there,) = kept.publications
    shop.keeper().advance(kept, there, Stage.DEPRECATED, Stage.OBSOLETE, "lifecycle", None)
    with pytest.raises(StateConflict, match="obsolete") as refused:
        require_publishable(kept, SHELF)
    assert f"imagefactory restore soe@{release_version(kept)}" in refused.value.advice
    shop.keeper().advance(kept, there, Stage.OBSOLETE, Stage.DELETED, "lifecycle", None)
    with pytest.raises(ReleaseDeleted):
        require_publishable(kept, SHELF)
    require_publishable(kept, "glance:a")


def test_what_was_withdrawn_may_be_published_again(shop: Shop) -> None:
    shop.release(SHELF)
    again = shop.records.release(ReleaseRef("soe"))
    shop.records.move_publication(again.publications[0], PublicationState.WITHDRAWN)
    shop.keeper().settle_everywhere("soe")
    again = shop.records.release(ReleaseRef("soe"))
    assert again.publications[0].stage == Stage.OBSOLETE
    require_publishable(again, SHELF)
