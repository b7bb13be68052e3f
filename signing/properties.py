"""Which Glance properties a release may carry, and how they are written.

A property is a key and a text. Keys are letters, digits and ``_ . : -``, a letter first, at most 255 characters; values
have at most 4096 characters and no control characters. What belongs to Glance or to the publication itself is no
property of a release: Glance's own attributes (but for min_ram in MiB and min_disk in GiB, decimal and without leading
zeros), and keys that begin with one of RESERVED, in whatever case.
"""

import re
from collections.abc import Mapping
from typing import Final

MAX_PROPERTIES: Final = 100
"""Glance's default quota is 128, and whoever publishes adds the signature and the way back to the manifest."""
MAX_VALUE: Final = 4096
"""Characters of a value."""

NUMBERS: Final = ("min_ram", "min_disk")
"""Attributes of Glance that are properties here: whole numbers, of MiB and of GiB."""

KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,254}")
RESERVED: Final = ("os_glance", "img_signature", "imagefactory_", "os_hash_")

_BASE: Final = re.compile(
    r"id|name|status|visibility|owner|checksum|(virtual_)?size|(created|updated|deleted)_at|deleted|locations?"
    r"|direct_url|file|schema|self|tags|(disk|container)_format|protected|os_hidden|stores"
)
_VALUE: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{0,{MAX_VALUE}}}")
# Glance keeps 32-bit integers.
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def is_reserved(key: str) -> bool:
    """Whether keys that begin like this one are not for releases."""
    return key.lower().startswith(RESERVED)


def is_attribute(key: str) -> bool:
    """Whether Glance or the publication itself sets this key."""
    return _BASE.fullmatch(key) is not None


def is_number(text: str) -> bool:
    """Whether `text` is a whole number as min_ram and min_disk are written."""
    return _NUMBER.fullmatch(text) is not None


def read_properties(document: Mapping[str, object]) -> dict[str, str]:
    """The properties in `document`. Raises: ValueError, which says what is wrong and repeats no value."""
    if len(document) > MAX_PROPERTIES:
        raise ValueError(f"there are more than {MAX_PROPERTIES} properties")
    return {key: _read(key, value) for key, value in document.items()}


def _read(key: str, value: object) -> str:
    if not KEY.fullmatch(key):
        raise ValueError("a property has a key that is none")
    if is_reserved(key) or is_attribute(key):
        raise ValueError(f"{key!r} is no property of a release")
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ValueError(f"the property {key!r} is no text of at most {MAX_VALUE} characters on one line")
    if key in NUMBERS and not is_number(value):
        raise ValueError(f"the property {key!r} is not a whole number")
    return value
