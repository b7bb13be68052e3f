"""Which format goes to which cloud: a table, and what holds for every target."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.model.cloud_format import choose
from imagefactory.model.recipe_targets import CloudTarget, format_for

BOTH = {"qcow2": 300, "raw": 3000}
NOISE = {"qcow2": 3100, "raw": 3000}  # what cannot be compressed


def target(**keys: Any) -> CloudTarget:  # noqa: ANN401
    """Only what matters."""
    return CloudTarget.model_construct(cloud="x", **keys)


@pytest.mark.parametrize(
    ("keys", "sizes", "there", "expected"),
    [
        ({}, BOTH, None, "qcow2"),
        ({}, NOISE, None, "qcow2"),
        ({}, {"raw": 3000}, None, "raw"),
        ({}, {}, None, None),
        ({"format": "raw"}, BOTH, None, "raw"),
        ({"format": "raw"}, {"qcow2": 1}, None, None),
        ({"bandwidth": 1 << 20}, BOTH, None, "qcow2"),
        ({"bandwidth": 1 << 20}, NOISE, None, "raw"),
        ({"bandwidth": 1 << 20}, {"raw": 5, "qcow2": 5}, None, "qcow2"),
        ({"bandwidth": 1 << 20}, {}, None, None),
        ({"bandwidth": 1 << 20, "format": "qcow2"}, NOISE, None, "qcow2"),
        ({"store": "rbd"}, BOTH, None, "raw"),
        ({"store": "rbd"}, {"qcow2": 1}, None, None),
        ({"store": "rbd", "bandwidth": 1 << 20}, BOTH, None, "raw"),
        ({"store": "rbd", "format": "qcow2"}, BOTH, None, "qcow2"),
        ({"store": "other"}, BOTH, None, "qcow2"),
        ({"store": "other", "bandwidth": 1 << 20}, NOISE, None, "raw"),
        ({"bandwidth": 1 << 20}, NOISE, "qcow2", "qcow2"),
        ({}, BOTH, "raw", "raw"),
        ({}, {"qcow2": 1}, "raw", "qcow2"),
        ({"format": "raw"}, BOTH, "qcow2", "raw"),
        ({"store": "rbd"}, BOTH, "qcow2", "raw"),
    ],
)
def test_choice(keys: dict[str, Any], sizes: dict[str, int], there: str | None, expected: str | None) -> None:
    assert choose(target(**keys), sizes, there) == expected


@given(
    st.sampled_from([None, "qcow2", "raw"]),
    st.none() | st.integers(1024, 1 << 40),
    st.dictionaries(st.sampled_from(["qcow2", "raw"]), st.integers(1, 1 << 40)),
)
def test_it_agrees_with_what_recipes_were_checked_for(
    wanted: str | None, bandwidth: int | None, sizes: dict[str, int]
) -> None:
    """Whatever fits a recipe is found when it is published, and nothing else."""
    given = CloudTarget.model_construct(cloud="x", format=wanted, bandwidth=bandwidth)  # type: ignore[arg-type]
    found = choose(given, sizes)
    assert (found is None) == (format_for(given, tuple(sizes)) is None)
    assert found is None or (found in sizes and wanted in (None, found))
    if bandwidth and not wanted and found:
        assert sizes[found] == min(sizes.values())
