"""What people decide about releases: recorded for every place or refused, with a code and what to do instead."""

from collections.abc import Callable

import pytest

from imagefactory.errors import (
    ApprovalMissing,
    ChannelUnknown,
    CloudUnreachable,
    FactoryError,
    NothingToChange,
    PreviousMissing,
    ReleaseRevoked,
    ReleaseUnknown,
    StateConflict,
    UsageError,
)
from imagefactory.lifecycle.verbs import Decision, Verbs
from imagefactory.model.build import PublicationState
from imagefactory.model.lifecycle import STABLE, Stage
from imagefactory.model.recipe_lifecycle import RecipeLife
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release
from tests.fakes.places import Shop

A, B = "glance:a", "glance:b"
LIFE = RecipeLife.model_validate({"channels": ["candidate", "beta", STABLE], "requires_approval": 1})


def verbs(shop: Shop, account: str = "ana", life: RecipeLife = LIFE) -> Verbs:
    return Verbs(shop.records, shop.keeper(account), lambda _: life)


def ref(release: Release) -> ReleaseRef:
    return ReleaseRef(release.name, release_version(release))


def do(shop: Shop, decide: Callable[[Verbs], Decision], account: str = "ana") -> None:
    mine = verbs(shop, account)
    mine.carry_out(decide(mine))


def stood(shop: Shop) -> list[tuple[str, str | None, list[str]]]:
    """Channel, what holds it and its stages, newest first."""
    return [
        (each.channel, each.held, [one.stage for one in each.publications]) for each in shop.records.releases("soe")
    ]


# -- promote and approve -----------------------------------------------------------------------------------------------


def test_a_release_goes_from_channel_to_channel_and_then_has_the_name(shop: Shop) -> None:
    old, new = shop.release(A), shop.release(A, channel="candidate")
    do(shop, lambda mine: mine.promote(ref(new), None, "tested"))
    assert shop.places.named(A) == [release_version(old)]
    with pytest.raises(ApprovalMissing, match="0 of 1 approvals by others than ana") as caught:
        verbs(shop).promote(ref(new), None, None)
    assert caught.value.advice == f"somebody else: imagefactory approve {ref(new)}"
    do(shop, lambda mine: mine.approve(ref(new)))
    with pytest.raises(ApprovalMissing):  # nobody approves for oneself
        verbs(shop).promote(ref(new), STABLE, None)
    do(shop, lambda mine: mine.approve(ref(new)), "ben")
    do(shop, lambda mine: mine.promote(ref(new), None, None))
    assert shop.places.named(A) == [release_version(new)]
    told = [(each.account, each.verb, each.after, each.reason) for each in shop.ledger.history("soe")]
    assert told[0] == ("ana", "promote", "beta", "tested")
    assert [each[:3] for each in told[-2:]] == [("ana", "promote", "stable"), ("ana", "succession", "deprecated")]


def test_what_is_not_newer_than_the_holder_does_not_get_the_name(shop: Shop) -> None:
    candidate, holding = shop.release(A, channel="beta"), shop.release(A)
    do(shop, lambda mine: mine.approve(ref(candidate)), "ben")
    do(shop, lambda mine: mine.promote(ref(candidate), STABLE, None))
    assert shop.places.named(A) == [release_version(holding)]


@pytest.mark.parametrize(
    ("to", "error", "text"),
    [
        ("gamma", ChannelUnknown, "its channels: candidate, beta, stable"),
        ("candidate", NothingToChange, "releases show"),
        ("beta", NothingToChange, "releases show"),
    ],
)
def test_a_channel_that_is_not_further_is_refused(shop: Shop, to: str, error: type[FactoryError], text: str) -> None:
    release = shop.release(A, channel="beta")
    with pytest.raises(error) as caught:
        verbs(shop).promote(ref(release), to, None)
    assert text in caught.value.advice


def test_nobody_promotes_or_approves_what_is_held_back_or_stable(shop: Shop) -> None:
    shop.release(A)
    held = shop.release(A, channel="candidate")
    stable = shop.release(A)
    do(shop, lambda mine: mine.deprecate(ref(held), "old"))
    with pytest.raises(StateConflict, match="is deprecated: old") as caught:
        verbs(shop).promote(ref(held), None, None)
    assert caught.value.advice.startswith(f"imagefactory restore {ref(held)}")
    with pytest.raises(NothingToChange):
        verbs(shop).promote(ref(stable), None, None)
    with pytest.raises(NothingToChange, match="on stable already"):
        verbs(shop).approve(ref(stable))
    do(shop, lambda mine: mine.rollback("soe", "broken"))
    with pytest.raises(StateConflict, match="is rolled-back: broken"):
        verbs(shop).promote(ref(stable), None, None)


def test_an_account_approves_once(shop: Shop) -> None:
    release = shop.release(A, channel="candidate")
    do(shop, lambda mine: mine.approve(ref(release)))
    with pytest.raises(NothingToChange, match="ana has approved"):
        verbs(shop).approve(ref(release))


# -- rollback ----------------------------------------------------------------------------------------------------------


def test_a_name_goes_back_step_by_step_as_far_as_there_is_one(shop: Shop) -> None:
    first, second, third = (shop.release(A, B) for _ in range(3))
    for expected in (second, first):
        do(shop, lambda mine: mine.rollback("soe", "broken"))
        assert shop.places.named(A) == shop.places.named(B) == [release_version(expected)]
    with pytest.raises(PreviousMissing):
        verbs(shop).rollback("soe", "broken")
    do(shop, lambda mine: mine.restore(ref(third), None))
    assert shop.places.named(A) == [release_version(third)]
    assert [each[1] for each in stood(shop)] == [None, "rolled-back", None]


def test_nothing_goes_back_to_what_is_not_there(shop: Shop) -> None:
    old = shop.release(A)
    new = shop.release(A, "catalogue:/srv")
    with pytest.raises(PreviousMissing, match="is not in catalogue:/srv any more") as caught:
        verbs(shop).rollback("soe", "broken")
    assert caught.value.advice == f"imagefactory publish {ref(old)} --to catalogue:/srv, then roll back"
    assert new.held is None
    with pytest.raises(ReleaseUnknown):
        verbs(shop).rollback("other", "broken")


def test_nothing_goes_back_to_what_was_withdrawn(shop: Shop) -> None:
    old, _ = shop.release(A), shop.release(A)
    there = shop.records.release(ref(old)).publications[0]
    shop.records.move_publication(there, PublicationState.WITHDRAWN)
    with pytest.raises(PreviousMissing):
        verbs(shop).rollback("soe", "broken")


def test_who_rolls_back_what_was_rolled_back_meanwhile_changes_nothing(shop: Shop) -> None:
    releases = [shop.release(A) for _ in range(3)]
    late = verbs(shop, "ben")
    decision = late.rollback("soe", "broken")
    do(shop, lambda mine: mine.rollback("soe", "broken"))
    with pytest.raises(StateConflict):
        late.carry_out(decision)
    assert shop.places.named(A) == [release_version(releases[1])]


# -- deprecate, restore, revoke ----------------------------------------------------------------------------------------


def test_a_deprecated_release_gives_its_name_up_and_gets_it_back(shop: Shop) -> None:
    old, new = shop.release(A), shop.release(A)
    do(shop, lambda mine: mine.deprecate(ref(new), "old"))
    assert shop.places.named(A) == [release_version(old)]
    with pytest.raises(NothingToChange, match="is deprecated already"):
        verbs(shop).deprecate(ref(new), "old")
    do(shop, lambda mine: mine.restore(ref(new), "it is good"))
    assert shop.places.named(A) == [release_version(new)]
    with pytest.raises(NothingToChange, match="nothing that could be taken back"):
        verbs(shop).restore(ref(new), None)


def test_nobody_deprecates_the_only_one_of_a_place(shop: Shop) -> None:
    shop.release(A)
    new = shop.release(A, B)
    with pytest.raises(PreviousMissing, match="the only release in glance:b") as caught:
        verbs(shop).deprecate(ref(new), "old")
    assert "revoked" in caught.value.advice
    assert shop.places.named(B) == [release_version(new)]


def test_a_candidate_is_deprecated_although_it_is_the_only_release(shop: Shop) -> None:
    candidate = shop.release(A, channel="candidate")
    do(shop, lambda mine: mine.deprecate(ref(candidate), "broken"))
    assert stood(shop) == [("candidate", "deprecated", ["deprecated"])]


def test_two_who_decide_at_once_do_not_leave_the_name_with_nobody(shop: Shop) -> None:
    """Each counts on the release that the other takes away."""
    old, new = shop.release(A), shop.release(A)
    rollback = verbs(shop, "ana").rollback("soe", "bad")
    deprecation = verbs(shop, "ben").deprecate(ref(old), "too old")
    verbs(shop).carry_out(deprecation)
    with pytest.raises(StateConflict, match="somebody else decided about soe"):
        verbs(shop, "ben").carry_out(rollback)
    assert shop.places.named(A) == [release_version(new)]
    do(shop, lambda mine: mine.restore(ref(old), None))
    rollback = verbs(shop).rollback("soe", "bad")
    shop.keeper().settle_everywhere("soe")
    verbs(shop).carry_out(rollback)
    assert shop.places.named(A) == [release_version(old)]


def test_what_is_deleted_meanwhile_does_not_get_the_name_again(shop: Shop) -> None:
    old, new = shop.release(A), shop.release(A)
    rollback = verbs(shop).rollback("soe", "bad")
    ((_, publication, _),) = (row for row in shop.ledger.standings("soe", A) if row[0].id == old.id)
    for before, after in ((Stage.DEPRECATED, Stage.OBSOLETE), (Stage.OBSOLETE, Stage.DELETED)):
        shop.keeper().advance(old, publication, before, after, "lifecycle", None)
    with pytest.raises(StateConflict):
        verbs(shop).carry_out(rollback)
    assert shop.places.named(A) == [release_version(new)]
    revocation = verbs(shop).revoke(ref(new), "leaks")
    do(shop, lambda mine: mine.revoke(ref(old), "leaks, too"))
    verbs(shop).carry_out(revocation)
    assert shop.places.named(A) == [], "what is bad is taken back, whatever others decide"


def test_an_obsolete_release_is_restored_and_may_have_the_name_again(shop: Shop) -> None:
    old, new = shop.release(A, B), shop.release(A, B)
    kept = shop.records.release(ref(old))
    for each in kept.publications:
        shop.keeper().advance(kept, each, Stage.DEPRECATED, Stage.OBSOLETE, "lifecycle", None)
    do(shop, lambda mine: mine.restore(ref(old), None))
    assert stood(shop)[1] == (STABLE, None, ["deprecated", "deprecated"])
    assert not shop.places.seen[A][release_version(old)].deactivated
    for each in (kept := shop.records.release(ref(old))).publications:
        shop.keeper().advance(kept, each, Stage.DEPRECATED, Stage.OBSOLETE, "lifecycle", None)
    do(shop, lambda mine: mine.revoke(ref(new), "leaks"))
    assert stood(shop) == [(STABLE, "revoked", ["obsolete"] * 2), (STABLE, None, ["active"] * 2)]
    assert shop.places.named(A) == [release_version(old)]


@pytest.mark.parametrize("ends", [PublicationState.INTENDED, PublicationState.FAILED])
def test_what_was_never_complete_is_revoked_as_well(shop: Shop, ends: PublicationState) -> None:
    """Killed after the upload, before it was recorded: nobody publishes it again, and it can be booted by its id."""
    old, bad = shop.release(A), shop.release()
    publication = shop.records.intend(bad, A, "5e7b3a54-0000-4000-8000-000000000001")
    if ends is not PublicationState.INTENDED:
        shop.records.move_publication(publication, ends)
    do(shop, lambda mine: mine.revoke(ref(bad), "leaks"))
    assert shop.places.seen[A][release_version(bad)].deactivated
    assert shop.places.named(A) == [release_version(old)]
    assert shop.ledger.unsettled("soe") == []


def test_a_revocation_is_final_and_once_more_finishes_it(shop: Shop) -> None:
    bad = shop.release(A)
    shop.places.unreachable = {A}
    mine = verbs(shop)
    (settled,) = mine.carry_out(mine.revoke(ref(bad), "leaks"))
    assert [type(left.failure) for left in settled.left] == [CloudUnreachable]
    shop.places.unreachable.clear()
    (settled,) = mine.carry_out(mine.revoke(ref(bad), "leaks"))
    assert settled.left == []
    assert shop.places.seen[A][release_version(bad)].deactivated
    attempts: list[Callable[[], Decision]] = [
        lambda: mine.promote(ref(bad), None, None),
        lambda: mine.approve(ref(bad)),
        lambda: mine.deprecate(ref(bad), "old"),
        lambda: mine.restore(ref(bad), None),
    ]
    for decide in attempts:
        with pytest.raises(ReleaseRevoked, match="was revoked: leaks"):
            decide()


# -- of all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", " x", "x\n", "x" * 201, "a\x1b[2Jb"])
def test_a_reason_is_one_line_that_is_not_too_long(shop: Shop, reason: str) -> None:
    shop.release(A)
    release = shop.release(A)
    mine = verbs(shop)
    attempts: list[Callable[[], Decision]] = [
        lambda: mine.promote(ref(release), None, reason),
        lambda: mine.rollback("soe", reason),
        lambda: mine.deprecate(ref(release), reason),
        lambda: mine.restore(ref(release), reason),
        lambda: mine.revoke(ref(release), reason),
    ]
    for decide in attempts:
        with pytest.raises(UsageError, match="one line of at most 200"):
            decide()


def test_a_decision_is_about_one_release_that_there_is(shop: Shop) -> None:
    shop.release(A)
    mine = verbs(shop)
    attempts: list[Callable[[ReleaseRef], Decision]] = [
        lambda wrong: mine.promote(wrong, None, None),
        mine.approve,
        lambda wrong: mine.deprecate(wrong, "old"),
        lambda wrong: mine.restore(wrong, None),
        lambda wrong: mine.revoke(wrong, "bad"),
    ]
    for decide in attempts:
        with pytest.raises(UsageError, match="one release is wanted"):
            decide(ReleaseRef("soe"))
        with pytest.raises(ReleaseUnknown):
            decide(ReleaseRef("soe", Version(20200101, 1)))


def test_what_is_only_decided_changes_nothing(shop: Shop) -> None:
    shop.release(A)
    new = shop.release(A)
    candidate = shop.release(A, channel="candidate")
    before, lines, asked = stood(shop), len(shop.ledger.history("soe")), len(shop.places.asked)
    audit = (shop.root / "audit.log").read_bytes()
    mine = verbs(shop)
    words = [
        mine.promote(ref(candidate), None, None).words,
        mine.approve(ref(candidate)).words,
        mine.rollback("soe", "x").words,
        mine.deprecate(ref(new), "x").words,
        mine.revoke(ref(new), "x").words,
    ]
    assert words[0] == f"{ref(candidate)}: candidate -> beta"
    assert words[2].startswith("soe: ")
    assert (before, lines, asked) == (stood(shop), len(shop.ledger.history("soe")), len(shop.places.asked))
    assert audit == (shop.root / "audit.log").read_bytes()
