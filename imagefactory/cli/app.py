"""The verbs put together."""

import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

import typer

from imagefactory import __version__
from imagefactory.cli.lazy import group_of
from imagefactory.cli.output import INTERRUPTED, hang_up, usage

# In the order of --help, with the first sentence that each says of itself.
VERBS: Mapping[str, str] = {
    "doctor": "Say what this machine has, what it lacks, and the line that installs it.",
    "plan": "Show which steps a build would run, and why.",
    "build": "Build, boot, sign, publish and verify an image.",
    "convert": "Convert an image, inspected before and after; print the digests of what came out.",
    "verify": "Verify an image against the keys that you trust.",
    "fetch": "Get an image out of a catalogue: the file has its name only when it was verified.",
    "publish": "Publish a signed release to other places, or again, and verify it there.",
    "promote": "Move a release to the next channel; the newest on stable has the name.",
    "approve": "Say that a release may become stable, where its recipe wants others to say so.",
    "rollback": "Give the name back to the release that had it before, everywhere.",
    "deprecate": "Hide a release everywhere, and give its name to the newest other one.",
    "restore": "Take back a deprecation, a rollback, or the deactivation of an obsolete release.",
    "revoke": "Withdraw a bad release everywhere, for good; say what was built from it.",
    "lifecycle": "What becomes of old releases, by the policy of their recipes.",
    "schedule": "When images are built again by themselves.",
    "preflight": "Ask a cloud what this account may do there, and what it does with signatures.",
    "boot": "Verify an image, then boot that very file in QEMU with its console here.",
    "gc": "Reclaim space from old images and dead builds.",
    "catalogue": "Catalogues: what they list, and how they are kept.",
    "recipe": "Recipes.",
    "properties": "What images say about themselves in Glance.",
    "keys": "The keys of this factory, one for each purpose.",
    "policy": "What the signer may sign: approved recipes, elements and builders.",
    "releases": "The releases of this factory.",
    "sbom": "The bill of materials of a release: its packages and their licences.",
    "compliance": "How well the image of a release keeps a published standard.",
    "vulnerabilities": "The known vulnerabilities of a release.",
    "builds": "Builds by workers: what was asked for, what is going on, what came of it.",
    "worker": "Do the tasks of a role, until it is stopped; what is not finished in time is handed back.",
    "beat": "Begin again what died, and tell workers of what waits, until it is stopped.",
    "service": "What several hosts share.",
    "audit": "The audit log: what was done with keys.",
}

# What people decide about releases is one module.
RETIRING = frozenset({"promote", "approve", "rollback", "deprecate", "restore", "revoke"})


def module_of(name: str) -> str:
    """The module that has the verb `name`."""
    return f"imagefactory.cli.{'retire' if name in RETIRING else name}"


app = typer.Typer(
    cls=group_of(VERBS, module_of),
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


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
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
