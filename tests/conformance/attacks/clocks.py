"""The clock, of the maker and of the one who verifies."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from signing.manifest import MANIFEST_FILE
from tests.conformance.attacks.corpus import Corpus
from tests.unit.signing.builders import DELETE, NOW

NOT_YET = "release-not-yet"


def clocks(c: Corpus) -> None:
    """The clock, of the maker and of the one who verifies."""
    too_late(c)
    too_early(c)
    dates_of_expiry(c)


def verified_at(c: Corpus, code: str, cases: Mapping[str, tuple[str, datetime]]) -> None:
    """The good manifest at another time: by the case's name, the attack and the time."""
    for name, (attack, now) in cases.items():
        c.manifest(name, code, attack, c.files[MANIFEST_FILE], now=now)


def too_late(c: Corpus) -> None:
    """The release is past its date."""
    verified_at(
        c,
        "release-expired",
        {
            "expired": (
                "The release is past its date: a mirror that is frozen serves it for ever.",
                NOW + timedelta(days=180),
            ),
            "expired-long-ago": (
                "Expired, and the leaf is, too: the release is what to talk about.",
                NOW + timedelta(days=4000),
            ),
        },
    )


def too_early(c: Corpus) -> None:
    """The release is of a time that has not come."""
    c.manifest(
        "created-in-the-future",
        NOT_YET,
        "Created in two days: its makers' clock is wrong, or it was signed for later.",
        c.shop.seal(c.shop.statement(created=NOW + timedelta(days=2), expires=NOW + timedelta(days=9))),
    )
    verified_at(
        c,
        NOT_YET,
        {
            "clock-turned-back": (
                "The clock of the one who verifies is turned back to before the release.",
                NOW - timedelta(days=30),
            ),
            "clock-at-the-epoch": (
                "A machine without a clock thinks that it is 1970.",
                NOW.replace(year=1970),
            ),
        },
    )


def dates_of_expiry(c: Corpus) -> None:
    """Truly signed, with a date of expiry that is none."""
    values = {
        "before-created": "2025-11-21T18:59:59Z",
        "when-created": "2025-11-21T19:00:00Z",
        "in-another-zone": "2026-11-21T19:00:00+14:00",
        "no-such-day": "2026-02-30T00:00:00Z",
        "no-such-hour": "2026-02-20T24:00:00Z",
        "never-said": DELETE,
        "a-number": 1900000000,
    }
    for name, value in values.items():
        c.manifest(
            f"expires-{name}",
            "manifest-invalid",
            "Signed with a date of expiry that cannot be one, or could be read in two ways.",
            c.shop.seal_changed(("predicate", "expires"), value),
        )
