"""Pictures, by matplotlib: the only place that imports it. Loaded only when something is drawn."""

import math
from pathlib import Path
from typing import Any, Final

from imagefactory.errors import ExtraMissing
from imagefactory.model.history import MOST_MARKS, Chart, Panel, PictureFormat

try:
    from matplotlib import style
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as missing:
    raise ExtraMissing(f"plots need matplotlib: {missing}", advice="pip install 'imagefactory[plot]'") from missing

# Inches: an A4 or letter page within its margins, so that the letters keep their size in print.
WIDTH, HEIGHT = 6.7, 8.6
PNG_DPI = 300
# Colours that the colour-blind tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/), the dark ones of them.
# Marks and dashes say the same once more, for a printer without colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
MARKS = ("o", "s", "^", "D", "v")
DASHES = ("-", "--", "-.", ":")
# What a user's own matplotlibrc says is set aside: the same chart gives the same bytes.
STYLE: Final[dict[str, Any]] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.parse_math": False,  # names of others are text, whatever dollars they have
    "svg.fonttype": "none",  # text that can be found and read aloud
    "svg.hashsalt": "imagefactory",  # or else ids are random
}
_METADATA: Final[dict[PictureFormat, dict[str, Any]]] = {
    "svg": {"Creator": None, "Date": None},
    "png": {"Software": None},
}


def draw(chart: Chart, output: Path, image_format: PictureFormat) -> None:
    """Draw a chart into the file `output`. Equal charts give equal bytes with the same matplotlib. Raises OSError."""
    with style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        figure.suptitle(chart.title, fontsize=10)
        rows = figure.subplots(len(chart.panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(rows, chart.panels, strict=True):
            _draw_panel(axes, panel, chart.length)
        rows[-1].set_xlim(-0.5, chart.length - 0.5)
        positions, versions = zip(*chart.ticks, strict=True)
        rows[-1].set_xticks(positions, versions, rotation=45, ha="right", rotation_mode="anchor")
        figure.align_ylabels(rows)
        metadata = {**_METADATA[image_format], "Title": chart.title}
        figure.savefig(output, format=image_format, dpi=PNG_DPI, metadata=metadata)


def _draw_panel(axes: Axes, panel: Panel, length: int) -> None:
    for at, series in enumerate(panel.series):
        axes.plot(
            range(length),
            [math.nan if value is None else value for value in series.values],
            color=COLOURS[at % len(COLOURS)],
            marker=MARKS[at % len(MARKS)],
            linestyle=DASHES[at % len(DASHES)],
            markersize=4 if length <= MOST_MARKS else 2,
            markevery=series.marked(),
            clip_on=False,
        )
    axes.set_ylabel(panel.label)
    axes.set_ylim(*panel.bounds)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=panel.counts))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    if not panel.series:
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.text(0.5, 0.5, "not known of any release", transform=axes.transAxes, ha="center", va="center")
    labels = [each.label for each in panel.series]
    if any(labels):
        axes.legend(axes.lines, labels, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
