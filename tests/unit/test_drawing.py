"""Pictures: what can be read in them, and that the same chart gives the same bytes."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from PIL import Image

from imagefactory.model.history import MOST_MARKS, Chart, Panel, PictureFormat, Series
from imagefactory.tools.drawing import PNG_DPI, WIDTH, draw

SVG = "{http://www.w3.org/2000/svg}"
FORMATS: tuple[PictureFormat, ...] = ("svg", "png")
CHART = Chart(
    title="soe-debian-12, 20261101.1 to 20261103.1",
    length=3,
    ticks=((0, "20261101.1"), (2, "20261103.1")),
    panels=(
        Panel("Compliance score (%)", (0, 100), False, (Series("one", (90, None, None)), Series("$x_", (None, 1, 99)))),
        Panel("Image size (MiB)", (0, 9), False, (Series("qcow2", (1.5, None, 2.5)),)),
        Panel("Packages", (200, 240), True, (Series("", (230, 231, 232)),)),
        Panel("Build time (s)", (0, 1), False, ()),
    ),
)


def drawn(tmp_path: Path, image_format: PictureFormat = "svg", chart: Chart = CHART) -> bytes:
    output = tmp_path / "made"
    draw(chart, output, image_format)
    return output.read_bytes()


def texts(svg: bytes) -> list[str]:
    return ["".join(each.itertext()).strip() for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def test_text_is_text(tmp_path: Path) -> None:
    found = texts(drawn(tmp_path))
    for text in (
        CHART.title,
        "20261101.1",
        "20261103.1",
        "one",
        "$x_",
        "qcow2",
        *(each.label for each in CHART.panels),
    ):
        assert found.count(text) == 1, text
    assert "20261102.1" not in found
    assert found.count("not known of any release") == 1
    assert {"202", "210"} & set(found)
    assert not any("." in text for text in found if text.startswith("2") and not text.startswith("2026"))


@pytest.mark.parametrize("image_format", FORMATS)
def test_equal_charts_give_equal_bytes(tmp_path: Path, image_format: PictureFormat) -> None:
    first = drawn(tmp_path, image_format)
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20, "svg.fonttype": "path", "savefig.dpi": 30}):
        assert drawn(tmp_path, image_format) == first
        assert mpl.rcParams["lines.linewidth"] == 9, "the settings of others are theirs again"


@pytest.mark.parametrize("image_format", FORMATS)
def test_another_process_draws_the_same(tmp_path: Path, image_format: PictureFormat) -> None:
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nbackend: nonsense\n")
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.test_drawing import CHART\n"
        "from imagefactory.tools.drawing import draw\n"
        f"draw(CHART, Path('other'), {image_format!r})"
    )
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}
    environment |= {"MPLCONFIGDIR": mpl.get_cachedir(), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)
    assert (tmp_path / "other").read_bytes() == drawn(tmp_path, image_format)


def test_an_svg_tells_nothing_of_where_and_when(tmp_path: Path) -> None:
    raw = drawn(tmp_path)
    (metadata,) = ElementTree.fromstring(raw).iter(f"{SVG}metadata")  # noqa: S314
    assert set(filter(None, map(str.strip, metadata.itertext()))) == {CHART.title, "image/svg+xml"}
    for told in (str(tmp_path), str(Path.home()), mpl.__version__, "<!--"):
        assert told.encode() not in raw


def test_a_png_is_good_for_print(tmp_path: Path) -> None:
    (tmp_path / "made.png").write_bytes(drawn(tmp_path, "png"))
    with Image.open(tmp_path / "made.png") as image:
        assert image.width == WIDTH * PNG_DPI
        assert [round(each) for each in image.info.pop("dpi")] == [PNG_DPI, PNG_DPI]
        assert image.info == {"Title": CHART.title}


def lines(svg: bytes) -> list[list[str]]:
    """The commands (M, L) of each line that stands for a series, panel by panel."""
    found = []
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):  # noqa: S314
        path = group.find(f"{SVG}path")
        # Thinner ones are the grid.
        if group.get("id", "").startswith("line2d_") and path is not None and "width: 1.2" in path.get("style", ""):
            found.append(re.findall("[A-Z]", path.get("d", "")))
    return found


def test_a_gap_is_a_gap(tmp_path: Path) -> None:
    alone = Chart("x", 5, ((0, "v"),), (Panel("y", (0, 9), False, (Series("", (1, 2, None, 4, 5)),)),))
    assert lines(drawn(tmp_path, chart=alone)) == [["M", "L", "M", "L"]]


@pytest.mark.parametrize("length", [1, MOST_MARKS, 1000])
def test_any_number_of_releases(tmp_path: Path, length: int) -> None:
    series = tuple(Series(f"line {at}", tuple(float(at + n % 7) for n in range(length))) for at in range(7))
    many = Chart("x", length, ((length - 1, "newest"),), (Panel("y", (0, 20), False, series),))
    raw = drawn(tmp_path, chart=many)
    assert "newest" in texts(raw)
    assert len(raw) < 1 << 20
    looks = re.findall(rb'style="(fill: none; stroke[^"]*)"', raw)
    assert len({look for look in looks if b"stroke-width: 1.2" in look}) >= min(7, len(series)), "no two look the same"


def test_without_the_library() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from imagefactory.errors import ExtraMissing\n"
        "try:\n"
        "    import imagefactory.tools.drawing\n"
        "except ExtraMissing as missing:\n"
        "    print(missing.code, missing.exit_code, missing.advice)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "extra-missing 3 pip install 'imagefactory[plot]'\n"
