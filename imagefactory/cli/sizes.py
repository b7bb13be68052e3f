"""Sizes in options."""

from pydantic_core import PydanticCustomError

from imagefactory.errors import UsageError
from imagefactory.model.quantity import parse_size


def size_option(flag: str, text: str) -> int:
    """A size such as "4 GiB" from an option, in bytes. Raises UsageError."""
    try:
        return parse_size(text)
    except PydanticCustomError as error:
        raise UsageError(f"{flag}: {error.message()}") from error
