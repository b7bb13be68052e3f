"""The verbs put together."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import typer

from imagefactory import __version__
from imagefactory.cli import boot, build, convert, doctor, gc, keys, plan, publish, recipe, releases, verify
from imagefactory.cli.output import INTERRUPTED

app = typer.Typer(
    help="Turn a recipe into a golden image for OpenStack that can prove where it came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imagefactory {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Turn a recipe into a golden image for OpenStack that can prove where it came from."""
    del version


for module in (doctor, plan, build, convert, verify, publish, boot, gc):
    module.register(app)
app.add_typer(recipe.app, name="recipe")
app.add_typer(keys.app, name="keys")
app.add_typer(releases.app, name="releases")


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        app(args=list(argv), prog_name="imagefactory", standalone_mode=True)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except KeyboardInterrupt:
        sys.stderr.write("error: stopped [interrupted]\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`).
        return 0
    return 0


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
