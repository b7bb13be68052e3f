"""Sizes, rates and durations: what is read, what is refused and how, and that writing is the opposite of reading."""

from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from imagefactory.model.quantity import (
    GIB,
    KIB,
    MIB,
    TIB,
    Between,
    Duration,
    Size,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
    shown,
)

UNITS = "s, m, h, d, seconds, minutes, hours, days, weeks"


class Sample(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    size: Annotated[Size, Between(4 * KIB, TIB, format_size, multiple=KIB, power_of_two=True)] = GIB
    wait: Annotated[Duration, Between(10, 3600, format_duration)] = 60


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0 B", 0),
        ("1 B", 1),
        ("64 KiB", 64 * KIB),
        ("512 MiB", 512 * MIB),
        ("4 GiB", 4 * GIB),
        ("4GiB", 4 * GIB),
        ("2 TiB", 2 * TIB),
    ],
)
def test_sizes_are_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "rate"), [("1 B/s", 1), ("512KiB/s", 512 * KIB), ("20 MiB/s", 20 * MIB)])
def test_rates_are_read_in_bytes_a_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(format_rate(rate)) == rate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (20, '20 has no unit: write a rate such as "512 KiB/s" or "20 MiB/s"'),
        ("20 MiB", 'did you mean "20 MiB/s"?'),
        ("20 MB", 'did you mean "20 MiB/s"?'),
        ("20 mb/s", 'did you mean "20 MiB/s"?'),
        ("20 Mbit/s", "the units of a rate are B/s, KiB/s, MiB/s, GiB/s, TiB/s"),
        ("20 MiB /s", "is not a rate"),
        ("fast", "is not a rate"),
    ],
)
def test_what_is_no_rate(value: object, message: str) -> None:
    with pytest.raises(ValueError, match="rate") as refused:
        parse_rate(value)
    assert message in str(refused.value)


def test_a_rate_is_no_size() -> None:
    with pytest.raises(ValueError, match="the units of a size are"):
        parse_size("20 MiB/s")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("0s", 0), ("90s", 90), ("20m", 1200), ("2h", 7200), ("30d", 30 * 86400), ("20 m", 1200)],
        *[("0 days", 0), ("90 seconds", 90), ("20 minutes", 1200), ("2hours", 7200), ("2 weeks", 14 * 86400)],
        *[("1 second", 1), ("1 minute", 60), ("1 hour", 3600), ("1 day", 86400), ("1 week", 7 * 86400)],
    ],
)
def test_durations_are_read_in_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (4096, '4096 has no unit: write a size such as "512 MiB" or "4 GiB"'),
        ("4096", '4096 has no unit: write a size such as "512 MiB" or "4 GiB"'),
        ("4 GB", "'4 GB': the units of a size are B, KiB, MiB, GiB, TiB; did you mean \"4 GiB\"?"),
        ("4G", "'4G': the units of a size are B, KiB, MiB, GiB, TiB; did you mean \"4GiB\"?"),
        ("4 gib", "'4 gib': the units of a size are B, KiB, MiB, GiB, TiB; did you mean \"4 GiB\"?"),
        ("4 mb", "'4 mb': the units of a size are B, KiB, MiB, GiB, TiB; did you mean \"4 MiB\"?"),
        ("4 apples", "'4 apples': the units of a size are B, KiB, MiB, GiB, TiB"),
        ("1.5 GiB", '\'1.5 GiB\' is not a size: a whole number and a unit, such as "512 MiB" or "4 GiB"'),
        ("-1 GiB", '\'-1 GiB\' is not a size: a whole number and a unit, such as "512 MiB" or "4 GiB"'),
        ("007 GiB", '\'007 GiB\' is not a size: a whole number and a unit, such as "512 MiB" or "4 GiB"'),
        ("٤ GiB", '\'٤ GiB\' is not a size: a whole number and a unit, such as "512 MiB" or "4 GiB"'),
        ("4 GiB\n", '\'4 GiB\\n\' is not a size: a whole number and a unit, such as "512 MiB" or "4 GiB"'),
        ("", '\'\' is not a size: a whole number and a unit, such as "512 MiB" or "4 GiB"'),
        (True, 'should be a size such as "512 MiB" or "4 GiB"'),
        (1.5, 'should be a size such as "512 MiB" or "4 GiB"'),
        (None, 'should be a size such as "512 MiB" or "4 GiB"'),
        (["4 GiB"], 'should be a size such as "512 MiB" or "4 GiB"'),
    ],
)
def test_what_is_no_size_is_refused_with_advice(value: object, message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole message follows
        parse_size(value)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (600, '600 has no unit: write a duration such as "90s", "20m" or "30 days"'),
        ("20 min", f"'20 min': the units of a duration are {UNITS}; did you mean \"20 m\"?"),
        ("2w", f"'2w': the units of a duration are {UNITS}; did you mean \"2weeks\"?"),
        ("2 months", f"'2 months': the units of a duration are {UNITS}"),
        ("1h30m", '\'1h30m\' is not a duration: a whole number and a unit, such as "90s", "20m" or "30 days"'),
    ],
)
def test_what_is_no_duration_is_refused_with_advice(value: object, message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole message follows
        parse_duration(value)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", "2 KiB", "should be from 4 KiB to 1 TiB, not 2 KiB"),
        ("size", "2 TiB", "should be from 4 KiB to 1 TiB, not 2 TiB"),
        ("size", "4097 B", "should be a multiple of 1 KiB, not 4097 B"),
        ("size", "12 KiB", "should be a power of two, not 12 KiB"),
        ("wait", "9s", "should be from 10s to 1h, not 9s"),
        ("wait", "2h", "should be from 10s to 1h, not 2h"),
    ],
)
def test_bounds(field: str, value: str, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Sample.model_validate({field: value})
    assert [error["msg"] for error in refused.value.errors()] == [message]


@given(st.integers(0, 1 << 49))
@settings(max_examples=50, deadline=None)
def test_a_size_written_is_read_again(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 1 << 40))
@settings(max_examples=50, deadline=None)
def test_a_duration_written_is_read_again(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


def test_the_largest_unit_that_divides_is_written() -> None:
    assert format_size(1536 * MIB) == "1536 MiB"
    assert format_size(1025) == "1025 B"
    assert format_duration(5400) == "90m"
    assert format_duration(172800) == "2d"


def test_a_model_serialises_back_to_text() -> None:
    sample = Sample.model_validate({"size": "512 MiB", "wait": "90s"})
    assert (sample.size, sample.wait) == (512 * MIB, 90)
    assert sample.model_dump(mode="json") == {"size": "512 MiB", "wait": "90s"}
    assert Sample.model_validate(sample.model_dump()) == sample


def test_a_value_in_a_message_is_short() -> None:
    assert len(shown("x" * 1000)) == 40
    assert shown("a\nb") == "'a\\nb'"
