"""The strict schema of CycloneDX, by its own library and jsonschema, in time that grows with the document only."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import Draft7Validator, extend


def _unique(validator: Any, wanted: bool, items: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ANN401
    """uniqueItems by what items look like. jsonschema compares each object with each other, which
    takes hours for a document that is made to take them."""
    del schema
    if wanted and validator.is_type(items, "array"):
        looks = {json.dumps(item, sort_keys=True) for item in items}
        if len(looks) != len(items):
            yield ValidationError("an array has an item twice")


_Draft7 = extend(Draft7Validator, {"uniqueItems": _unique})  # type: ignore[no-untyped-call]


class _Validator(JsonStrictValidator):
    """The library's validator, its schemas and its checks of formats, with our uniqueItems."""

    @property
    def _validator(self) -> Any:  # noqa: ANN401 - typed by nobody
        theirs: Any = super()._validator
        return _Draft7(theirs.schema, registry=theirs._registry, format_checker=theirs.format_checker)


@cache
def validator(version: SchemaVersion) -> JsonStrictValidator:
    """Judges documents of this version, one after the other."""
    return _Validator(version)
