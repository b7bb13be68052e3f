"""How the values of well-known Glance properties are written, whoever writes them.

The words are those of SCS-0102, version 2 (Sovereign Cloud Stack, "Image Metadata"), and of Nova for what begins with
hw_ and os_secure_boot. A property that is not here may hold any text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from signing.properties import is_number

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_URL: Final = re.compile(r"(https?|ftps?)://[^\s/]\S*", re.IGNORECASE)
_LAST: Final = re.compile(r"last-[1-9][0-9]{0,8}")
_BUILD_DATES: Final = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True)
class Form:
    """How a value is written: `what` for people, `fits` for us."""

    what: str
    fits: Callable[[str], bool]


def one_of(*words: str) -> Form:
    """One of these words."""
    return Form(", ".join(words), words.__contains__)


def day_of(text: str) -> date | None:
    """The day that `text` names as YYYY-MM-DD, or None."""
    if not _DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def build_day(text: str) -> date | None:
    """The day of an image_build_date, which may have a time (UTC), or None."""
    for form in _BUILD_DATES:
        try:
            moment = datetime.strptime(text, form)
        except ValueError:
            continue
        # strptime takes one digit for two; the standard does not.
        return moment.date() if moment.strftime(form) == text else None
    return None


def _is_day(text: str) -> bool:
    return day_of(text) is not None


_FLAG: Final = Form("true, false", lambda text: text.lower() in ("true", "false"))
_WHOLE: Final = Form("a whole number", is_number)

FORMS: Final[Mapping[str, Form]] = {
    "min_ram": Form("a whole number of MiB", is_number),
    "min_disk": Form("a whole number of GiB", is_number),
    "hw_firmware_type": one_of("bios", "uefi"),
    "os_secure_boot": one_of("required", "optional", "disabled"),
    "hw_qemu_guest_agent": one_of("yes", "no"),
    "os_purpose": one_of("generic", "minimal", "k8snode", "gpu", "network", "custom"),
    "replace_frequency": one_of("yearly", "quarterly", "monthly", "weekly", "daily", "critical_bug", "never"),
    "uuid_validity": Form(
        "none, last-N, YYYY-MM-DD, notice, forever",
        lambda text: text in ("none", "notice", "forever") or _is_day(text) or _LAST.fullmatch(text) is not None,
    ),
    "provided_until": Form("none, YYYY-MM-DD, notice", lambda text: text in ("none", "notice") or _is_day(text)),
    "hotfix_hours": _WHOLE,
    "image_source": Form("a URL, or private", lambda text: text == "private" or _URL.fullmatch(text) is not None),
    "image_build_date": Form("YYYY-MM-DD, or YYYY-MM-DD hh:mm[:ss] in UTC", lambda text: build_day(text) is not None),
    "maintained_until": Form("YYYY-MM-DD", _is_day),
    "license_included": _FLAG,
    "license_required": _FLAG,
    "subscription_included": _FLAG,
    "subscription_required": _FLAG,
}


def wrong_form(key: str, value: str) -> str | None:
    """What the value of `key` should be, or None if it is well written or nobody knows the key."""
    form = FORMS.get(key)
    return None if form is None or form.fits(value) else form.what
