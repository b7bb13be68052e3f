"""The releases of one name in numbers, and how they are drawn: small multiples over one axis of versions. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Literal, TypeAlias

from imagefactory.model.compliance import decimal
from imagefactory.model.evidence import JSON
from imagefactory.model.release import Version

PictureFormat: TypeAlias = Literal["svg", "png"]

# As many versions as a line of a printed page can name.
MOST_TICKS = 24
# Hundreds of marks would hide their line.
MOST_MARKS = 60
_BYTES = ((1, "B"), (1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"))
_SECONDS = ((1, "s"), (60, "min"), (3600, "h"))


@dataclass(frozen=True)
class Numbers:
    """What is known of one release: its score in percent by a `profile`, the `sizes` of its images in bytes by format,
    the number of its packages, and the seconds from the start of its build to its signature. None is not known, which
    is no zero."""

    version: Version
    created: datetime
    score: Fraction | None
    profile: str | None
    sizes: Mapping[str, int]
    packages: int | None
    seconds: float | None

    def to_json(self) -> dict[str, JSON]:
        return {
            "version": str(self.version),
            "created": f"{self.created.isoformat()}Z",
            "score": None if self.score is None else decimal(self.score),
            "profile": self.profile,
            "sizes": dict(self.sizes),
            "packages": self.packages,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Series:
    """One line of a panel: a value for each release, None where the line has a gap. `label` tells it from the others,
    and is empty where its panel says all."""

    label: str
    values: tuple[float | None, ...]

    def marked(self) -> list[int]:
        """Which values need a mark: all, as long as there is room for them, and else those that no line reaches."""
        around = (None, *self.values, None)
        return [
            at
            for at, value in enumerate(self.values)
            if value is not None and (len(self.values) <= MOST_MARKS or around[at] is around[at + 2] is None)
        ]


@dataclass(frozen=True)
class Panel:
    """One of the small multiples: what its axis says, the least and the greatest value that it shows, whether these are
    counts, and its lines. A panel without any says that nothing is known; no line is all gaps."""

    label: str
    bounds: tuple[float, float]
    counts: bool
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Chart:
    """A picture to be drawn: `length` releases from left to right, of which `ticks` names some by position."""

    title: str
    length: int
    ticks: tuple[tuple[int, str], ...]
    panels: tuple[Panel, ...]


def chart(name: str, history: Sequence[Numbers]) -> Chart:
    """The picture of a name's releases, oldest first; there is at least one."""
    profiles = sorted({each.profile for each in history if each.profile is not None})
    formats = sorted({image_format for each in history for image_format in each.sizes})
    first, last = history[0].version, history[-1].version
    return Chart(
        title=f"{name}@{first}" if first == last else f"{name}, {first} to {last}",
        length=len(history),
        ticks=_ticks([str(each.version) for each in history]),
        panels=(
            # Scores by different profiles are not the same quantity, and no line joins them.
            _panel("Compliance score (%)", [_score_by(profile, history) for profile in profiles], most=100),
            _scaled("Image size", _BYTES, [_size_of(image_format, history) for image_format in formats]),
            _panel("Packages", _only(each.packages for each in history), counts=True),
            _scaled("Build time", _SECONDS, _only(each.seconds for each in history)),
        ),
    )


def _ticks(versions: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """Every so many, counted from the newest, which is always named."""
    step = -(-len(versions) // MOST_TICKS)
    return tuple((at, versions[at]) for at in range((len(versions) - 1) % step, len(versions), step))


def _score_by(profile: str, history: Sequence[Numbers]) -> Series:
    scores = (each.score if each.profile == profile else None for each in history)
    return Series(profile, tuple(None if score is None else float(score) for score in scores))


def _size_of(image_format: str, history: Sequence[Numbers]) -> Series:
    return Series(image_format, tuple(each.sizes.get(image_format) for each in history))


def _only(values: Iterable[float | None]) -> list[Series]:
    """One line, or none where nothing is known."""
    found = tuple(values)
    return [] if all(value is None for value in found) else [Series("", found)]


def _scaled(label: str, units: Sequence[tuple[int, str]], series: Sequence[Series]) -> Panel:
    """A panel in the greatest unit that makes no small fraction of the greatest value."""
    greatest = max(_known(series), default=0)
    factor, unit = next((each for each in reversed(units) if greatest >= 2 * each[0]), units[0])
    scaled = (tuple(None if value is None else value / factor for value in each.values) for each in series)
    return _panel(
        f"{label} ({unit})", [Series(each.label, values) for each, values in zip(series, scaled, strict=True)]
    )


def _panel(label: str, series: Sequence[Series], *, most: float | None = None, counts: bool = False) -> Panel:
    return Panel(label, _bounds(_known(series), most), counts, tuple(series))


def _bounds(values: Sequence[float], most: float | None) -> tuple[float, float]:
    """Some room around the values. A tenth of the greatest at least, so that a change of one in a thousand does not
    look like a leap."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    room = 1.1 * (max(high - low, high / 10) or 1.0)
    middle = (low + high) / 2
    top = middle + room / 2
    return max(0.0, middle - room / 2), top if most is None else min(most, top)


def _known(series: Iterable[Series]) -> list[float]:
    return [value for each in series for value in each.values if value is not None]
