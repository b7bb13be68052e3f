"""The verbs put together."""

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

import typer

from imagefactory import __version__
from imagefactory.cli.output import INTERRUPTED, hang_up, usage

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


# In the order of --help. Each is imported only when it is called or listed: verify is done before all of them are read.
VERBS = (
    *("doctor", "plan", "build", "convert", "verify", "publish", "preflight", "boot", "gc"),
    *("recipe", "properties", "keys", "policy", "releases", "sbom", "compliance", "vulnerabilities", "audit"),
)


def load(argv: Sequence[str] = ()) -> None:
    """Register the verb that `argv` begins with, or all of them."""
    if argv and argv[0] == "--version":
        return
    wanted = [argv[0]] if argv and argv[0] in VERBS else VERBS
    for name in wanted:
        module = import_module(f"imagefactory.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            module.register(app)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        load(argv)
        status = app(args=list(argv), prog_name="imagefactory", standalone_mode=False)
    except typer.TyperException as error:
        return usage(error, "--json" in argv)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("error: stopped [interrupted]\n")
        return INTERRUPTED
    except SystemExit as leaving:  # typer's own: shell completion, a closed pipe
        return leaving.code if isinstance(leaving.code, int) else 1
    finally:
        hang_up()
    return status if isinstance(status, int) else 0


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
