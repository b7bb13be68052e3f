"""Sizes, rates and durations as people write them: "4 GiB", "20 MiB/s", "90s", "20m", "2h", "30d" or "30 days".

A unit is always required: nobody has to guess whether 4096 means bytes, KiB or MiB. In memory a size is an int of
bytes, a rate one of bytes a second and a duration one of seconds; written out again they take the largest unit that
divides them.

Every refusal is a `PydanticCustomError`, which is a `ValueError`, of the type "recipe-unit".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

KIB: Final = 1 << 10  # bytes
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40

_SIZES: Final[Mapping[str, int]] = {"TiB": TIB, "GiB": GIB, "MiB": MIB, "KiB": KIB, "B": 1}  # in bytes, largest first
_RATES: Final[Mapping[str, int]] = {f"{unit}/s": count for unit, count in _SIZES.items()}
_DURATIONS: Final[Mapping[str, int]] = {"d": 86400, "h": 3600, "m": 60, "s": 1}  # in seconds, largest first
_IN_WORDS: Final[Mapping[str, int]] = {"weeks": 7 * 86400, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
_ONE: Final[Mapping[str, str]] = {words.removesuffix("s"): words for words in _IN_WORDS}

_NUMBER: Final = r"(?:0|[1-9][0-9]{0,14})"
_QUANTITY: Final = re.compile(rf"(?P<count>{_NUMBER})(?P<space> ?)(?P<unit>[A-Za-z]*(?:/s)?)")
_SIZE_PATTERN: Final = rf"^{_NUMBER} ?(?:{'|'.join(_SIZES)})$"
_RATE_PATTERN: Final = _SIZE_PATTERN.replace("$", "/s$")
_DURATION_PATTERN: Final = rf"^{_NUMBER} ?(?:[{''.join(_DURATIONS)}]|(?:{'|'.join(_ONE)})s?)$"

_MEANT: Final[Mapping[str, str]] = {
    **{spelling: unit for unit in _SIZES if unit != "B" for spelling in (unit[0], f"{unit[0]}b", unit.lower())},
    **dict.fromkeys(("sec", "secs"), "s"),
    **dict.fromkeys(("min", "mins"), "m"),
    **dict.fromkeys(("hr", "hrs"), "h"),
    **dict.fromkeys(("w", "wk", "wks"), "weeks"),
}


def refusal(code: str, text: str) -> PydanticCustomError:
    """The error of a validator: `code` is the code of an error class, `text` what is wrong, for people."""
    return PydanticCustomError(code, "{text}", {"text": text})


def shown(value: object) -> str:
    """`value` as part of a message: at most 40 characters of it, on one line."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def parse_size(value: object) -> int:
    """The bytes of a size such as "4 GiB" (B, KiB, MiB, GiB, TiB: powers of 1024)."""
    return _parse(value, _SIZES, "a size", '"512 MiB" or "4 GiB"')


def parse_rate(value: object) -> int:
    """The bytes a second of a rate such as "20 MiB/s" (sizes per second)."""
    return _parse(value, _RATES, "a rate", '"512 KiB/s" or "20 MiB/s"')


def parse_duration(value: object) -> int:
    """The seconds of a duration such as "20m" (s, m, h, d) or "30 days" (seconds to weeks)."""
    return _parse(value, {**_IN_WORDS, **_DURATIONS}, "a duration", '"90s", "20m" or "30 days"')


def format_size(size: int) -> str:
    """`size` bytes with the largest unit that divides them: 4294967296 -> "4 GiB"."""
    return _format(size, _SIZES, " ")


def format_rate(rate: int) -> str:
    """`rate` bytes a second with the largest unit that divides them: 20971520 -> "20 MiB/s"."""
    return _format(rate, _RATES, " ")


def format_duration(seconds: int) -> str:
    """`seconds` with the largest unit that divides them: 1200 -> "20m"."""
    return _format(seconds, _DURATIONS, "")


@dataclass(frozen=True)
class Between:
    """For an annotation: the value lies in low..high, both included, and is a multiple of `multiple` or a power of two.

    `show` writes a value for people: `format_size`, `format_rate` or `format_duration`.
    """

    low: int
    high: int
    show: Callable[[int], str]
    multiple: int = 1
    power_of_two: bool = False

    def check(self, value: int) -> int:
        """`value`, or a refusal."""
        show = self.show
        if not self.low <= value <= self.high:
            raise refusal("recipe-invalid", f"should be from {show(self.low)} to {show(self.high)}, not {show(value)}")
        if value % self.multiple:
            raise refusal("recipe-invalid", f"should be a multiple of {show(self.multiple)}, not {show(value)}")
        if self.power_of_two and value & (value - 1):
            raise refusal("recipe-invalid", f"should be a power of two, not {show(value)}")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "examples": [self.show(self.low), self.show(self.high)]}


def _parse(value: object, units: Mapping[str, int], kind: str, examples: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise refusal("recipe-unit", f"should be {kind} such as {examples}")
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise refusal("recipe-unit", f"{shown(value)} is not {kind}: a whole number and a unit, such as {examples}")
    count, unit = match["count"], _ONE.get(match["unit"], match["unit"])
    if not unit:
        raise refusal("recipe-unit", f"{count} has no unit: write {kind} such as {examples}")
    if unit not in units:
        meant = _meant(unit, units)
        hint = f'; did you mean "{count}{match["space"]}{meant}"?' if meant in units else ""
        known = ", ".join(reversed(list(units)))
        raise refusal("recipe-unit", f"{shown(value)}: the units of {kind} are {known}{hint}")
    return int(count) * units[unit]


def _meant(unit: str, units: Mapping[str, int]) -> str:
    """The unit among `units` that somebody who writes `unit` has in mind, or what is none of them."""
    plain = unit.removesuffix("/s")
    meant = _MEANT.get(plain, _MEANT.get(plain.capitalize(), _MEANT.get(plain.lower(), plain)))
    return f"{meant}/s" if f"{meant}/s" in units else meant


def _format(value: int, units: Mapping[str, int], space: str) -> str:
    unit = next((name for name, factor in units.items() if value and value % factor == 0), list(units)[-1])
    return f"{value // units[unit]}{space}{unit}"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _SIZE_PATTERN}),
]
"""An int of bytes, written "4 GiB"."""

Rate = Annotated[
    int,
    BeforeValidator(parse_rate),
    PlainSerializer(format_rate, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _RATE_PATTERN}),
]
"""An int of bytes a second, written "20 MiB/s"."""

Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN}),
]
"""An int of seconds, written "20m" or "20 minutes"."""


def counted(count: int, noun: str) -> str:
    """So many of something, for people: 1 server, 2 servers."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
