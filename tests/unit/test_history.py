"""What is to be drawn of a name's releases: lines, gaps, units, bounds, and which versions are named."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.model.history import MOST_MARKS, MOST_TICKS, Chart, Numbers, Panel, Series, chart
from imagefactory.model.release import Version

NAME = "soe-debian-12"
DAY = datetime(2026, 11, 1, 12, 0)
ANSSI = "anssi_bp28_enhanced"


def numbers(
    at: int = 0,
    *,
    score: Fraction | None = Fraction(955, 10),
    profile: str = ANSSI,
    sizes: Mapping[str, int] = {"qcow2": 300 << 20},
    packages: int | None = 237,
    seconds: float | None = 720.0,
) -> Numbers:
    return Numbers(
        version=Version(int(f"{DAY + timedelta(days=at):%Y%m%d}"), 1),
        created=DAY + timedelta(days=at),
        score=score,
        profile=None if score is None else profile,
        sizes=sizes,
        packages=packages,
        seconds=seconds,
    )


def panels(history: Iterable[Numbers]) -> tuple[Panel, ...]:
    """Score, sizes, packages, build time."""
    return chart(NAME, tuple(history)).panels


def near(low: float, high: float) -> Any:  # noqa: ANN401 - it is like any pair of numbers near these
    return pytest.approx((low, high))


def test_one_release() -> None:
    assert chart(NAME, [numbers()]) == Chart(
        title=f"{NAME}@20261101.1",
        length=1,
        ticks=((0, "20261101.1"),),
        panels=(
            Panel("Compliance score (%)", near(90.2475, 100.0), False, (Series(ANSSI, (95.5,)),)),
            Panel("Image size (MiB)", near(283.5, 316.5), False, (Series("qcow2", (300.0,)),)),
            Panel("Packages", near(223.965, 250.035), True, (Series("", (237,)),)),
            Panel("Build time (min)", near(11.34, 12.66), False, (Series("", (12.0,)),)),
        ),
    )


def test_what_a_release_has_not_is_a_gap() -> None:
    nothing = numbers(1, score=None, sizes={}, packages=None, seconds=None)
    for panel in panels([numbers(0), nothing, numbers(2)]):
        (series,) = panel.series
        assert series.values[1] is None
        assert None not in (series.values[0], series.values[2])
        assert panel.bounds[0] > 0, "a gap is no zero"


def test_what_no_release_has_is_no_line() -> None:
    nothing = numbers(score=None, sizes={}, packages=None, seconds=None)
    assert [panel.series for panel in panels([nothing])] == [(), (), (), ()]
    assert all(low < high for low, high in (panel.bounds for panel in panels([nothing])))


def test_no_line_joins_the_scores_of_two_profiles() -> None:
    score, *_ = panels([numbers(0), numbers(1), numbers(2, profile="anssi_bp28_high")])
    assert score.series == (
        Series(ANSSI, (95.5, 95.5, None)),
        Series("anssi_bp28_high", (None, None, 95.5)),
    )


def test_each_format_has_its_line() -> None:
    both = {"raw": 3 << 30, "qcow2": 1 << 30}
    _, sizes, *_ = panels([numbers(0, sizes={"qcow2": 1 << 29}), numbers(1, sizes=both)])
    assert sizes.label == "Image size (GiB)"
    assert sizes.series == (Series("qcow2", (0.5, 1.0)), Series("raw", (None, 3.0)))


@pytest.mark.parametrize(
    ("seconds", "label", "value"),
    [
        (0.0, "Build time (s)", 0.0),
        (119.0, "Build time (s)", 119.0),
        (120.0, "Build time (min)", 2.0),
        (7200.0, "Build time (h)", 2.0),
    ],
)
def test_the_unit_fits_the_greatest_value(seconds: float, label: str, value: float) -> None:
    *_, time = panels([numbers(seconds=seconds)])
    assert (time.label, time.series[0].values) == (label, (value,))


def test_a_small_change_does_not_look_like_a_leap() -> None:
    low, high = panels([numbers(0, packages=1000), numbers(1, packages=1001)])[2].bounds
    assert high - low >= 100


def test_a_score_has_an_end() -> None:
    assert panels([numbers(score=Fraction(100))])[0].bounds[1] == 100


@given(st.lists(st.none() | st.integers(0, 1 << 50), min_size=1, max_size=30))
def test_everything_is_within_its_bounds(values: list[int | None]) -> None:
    history = [
        numbers(at, packages=value, seconds=value, sizes={} if value is None else {"raw": value})
        for at, value in enumerate(values)
    ]
    for panel in panels(history):
        low, high = panel.bounds
        assert 0 <= low < high
        assert all(low <= value <= high for each in panel.series for value in each.values if value is not None)


@given(st.integers(1, 2000))
def test_the_axis_names_as_many_versions_as_it_can(length: int) -> None:
    history = [numbers(at) for at in range(length)]
    ticks = chart(NAME, history).ticks
    assert ticks[-1] == (length - 1, str(history[-1].version)), "the newest is always named"
    assert all(name == str(history[at].version) for at, name in ticks)
    assert len(ticks) <= MOST_TICKS
    assert len({after - before for (before, _), (after, _) in pairwise(ticks)}) <= 1, "at equal distances"
    assert len(ticks) == length or len(ticks) > MOST_TICKS // 3


def test_what_no_line_reaches_is_marked() -> None:
    assert Series("", (1, None, 2, 3)).marked() == [0, 2, 3]
    crowd = [1.0] * MOST_MARKS
    assert Series("", (2, None, *crowd, None, 3, None)).marked() == [0, MOST_MARKS + 3]
    assert Series("", (*crowd, 2)).marked() == []


def test_for_programs() -> None:
    assert numbers(score=Fraction(287, 3)).to_json() == {
        "version": "20261101.1",
        "created": "2026-11-01T12:00:00Z",
        "score": "95.6",
        "profile": ANSSI,
        "sizes": {"qcow2": 300 << 20},
        "packages": 237,
        "seconds": 720.0,
    }
    nothing = numbers(score=None, sizes={}, packages=None, seconds=None).to_json()
    assert [nothing[key] for key in ("score", "profile", "sizes", "packages", "seconds")] == [
        None,
        None,
        {},
        None,
        None,
    ]
