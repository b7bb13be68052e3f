"""The strict schema of CycloneDX, by its own library and jsonschema, in time that grows with the document only."""

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import Draft7Validator, extend

_ASCII = "".join(map(chr, range(128)))
# In no IRI, and not in ASCII, but for the end of a line, which a regular expression may take for the end of all.
_NEVER = re.compile("[\\n\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef\\ufff0-\\uffff]")


def _unique(validator: Any, wanted: bool, items: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    """uniqueItems by what items look like. jsonschema compares each object with each other, which
    takes hours for a document that is made to take them."""
    del schema
    if wanted and validator.is_type(items, "array"):
        looks = {json.dumps(item, sort_keys=True) for item in items}
        if len(looks) != len(items):
            yield ValidationError("an array has an item twice")


_Draft7 = extend(Draft7Validator, {"uniqueItems": _unique})  # type: ignore[no-untyped-call]


def _formats() -> FormatChecker:
    """Those of jsonschema, and references to IRIs (RFC 3987, section 3.1): mapped to URIs, and judged as such."""
    formats: FormatChecker = copy.copy(Draft7Validator.FORMAT_CHECKER)
    is_uri_reference, raises = formats.checkers["uri-reference"]

    def is_iri_reference(text: object) -> bool:
        if not isinstance(text, str):
            return True
        return _NEVER.search(text) is None and bool(is_uri_reference(quote(text, safe=_ASCII)))

    formats.checkers = {**formats.checkers, "iri-reference": (is_iri_reference, raises)}
    return formats


class _Validator(JsonStrictValidator):
    """The library's validator, its schemas and its checks of formats, with our uniqueItems."""

    @property
    def _validator(self) -> Any:  # noqa: ANN401 - typed by nobody
        theirs: Any = super()._validator
        return _Draft7(theirs.schema, registry=theirs._registry, format_checker=_formats())


@cache
def validator(version: SchemaVersion) -> JsonStrictValidator:
    """Judges documents of this version, one after the other."""
    return _Validator(version)
