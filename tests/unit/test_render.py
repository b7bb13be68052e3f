"""What a user sees while work goes on."""

import io
from collections.abc import Callable

import pytest

from imagefactory.cli import render
from imagefactory.progress import Event, Note, StepAdvanced, StepFailed, StepFinished, StepStarted


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (312 << 20, "312.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_bytes_for_people(size: int, expected: str) -> None:
    assert render.human(size) == expected


def test_the_line_that_stays() -> None:
    assert render.finished(StepFinished("disk", "sha256:ab", reused=False, seconds=2.04)) == "+ disk: sha256:ab (2.0 s)"
    assert render.finished(StepFinished("disk", "the same", reused=True, seconds=0)) == "= disk: the same"


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Events to what is written of them where stderr is no terminal."""

    def drawn(*events: Event) -> str:
        written = io.StringIO()
        monkeypatch.setattr("sys.stderr", written)
        with render.renderer() as progress:
            for event in events:
                progress(event)
        return written.getvalue()

    return drawn


def test_plain_lines(draw: Callable[..., str]) -> None:
    assert (
        draw(
            Note("warning", "no-separation: root"),
            StepStarted("rootfs", "it was never built", "/logs/rootfs.log"),
            StepFinished("rootfs", "2 packages", reused=False, seconds=61.26),
            StepStarted("publish /srv", "it is not published there"),
        )
        == "warning: no-separation: root\nrootfs: it was never built (log: /logs/rootfs.log)\n"
        "+ rootfs: 2 packages (61.3 s)\npublish /srv: it is not published there\n"
    )


def test_plain_lines_now_and_then(draw: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 10.0, 31.0, 32.0, 70.0])
    monkeypatch.setattr("imagefactory.cli.render.time.monotonic", lambda: next(clock))
    text = draw(
        StepStarted("convert", "why"),
        StepAdvanced("convert", 1, 10, "bytes"),
        StepAdvanced("convert", 5 << 20, 10 << 20, "bytes"),
        StepAdvanced("convert", 6 << 20, 10 << 20, "bytes"),
        StepAdvanced("convert", 3, 9, "packages", "unpacking"),
    )
    assert text == "convert: why\nconvert: 5.0 MiB of 10.0 MiB\nconvert: unpacking, 3 of 9 packages\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_what_stays_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    written = Terminal()
    monkeypatch.setattr("sys.stderr", written)
    with render.renderer() as progress:
        progress(StepStarted("convert [raw]", "[bold]why"))
        progress(StepAdvanced("convert [raw]", 5, 10, "bytes", "half"))
        progress(StepFinished("convert [raw]", "[red]done", reused=False, seconds=1))
        progress(Note("info", "[x] markup is text"))
    assert "+ convert [raw]: [red]done (1.0 s)" in written.getvalue()
    assert "info: [x] markup is text" in written.getvalue()
    assert "\x1b[" in written.getvalue(), "the line of the running step came and went"


def test_several_steps_at_once_are_told_apart(draw: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 1.0, 40.0, 41.0, 42.0, 43.0, 44.0])
    monkeypatch.setattr("imagefactory.cli.render.time.monotonic", lambda: next(clock))
    text = draw(
        StepStarted("publish a", "why"),
        StepStarted("publish b", "why"),
        StepAdvanced("publish a", 0, 0, "", "uploading"),
        StepAdvanced("publish b", 0, 0, "", "waiting"),
        StepAdvanced("publish a", 0, 0, "", "comparing"),
        StepFailed("publish b", "it is down [cloud-unreachable]"),
        StepFinished("publish a", "verified", reused=False, seconds=4),
    )
    assert text.splitlines()[2:] == [
        "publish a: uploading",
        "publish b: waiting",
        "! publish b: it is down [cloud-unreachable]",
        "+ publish a: verified (4.0 s)",
    ]


def test_a_terminal_shows_steps_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    written = Terminal()
    monkeypatch.setattr("sys.stderr", written)
    with render.renderer() as progress:
        progress(StepAdvanced("nobody", 1, 2, "bytes", "before anything began"))
        for step in ("publish a", "publish b"):
            progress(StepStarted(step, "why"))
        progress(StepAdvanced("publish a", 5, 10, "bytes", "half"))
        progress(StepFailed("publish a", "[x] down"))
        progress(StepFinished("publish b", "done", reused=False, seconds=1))
    assert "! publish a: [x] down" in written.getvalue()
    assert "+ publish b: done (1.0 s)" in written.getvalue()
