"""The command line: one module a verb. The only place that exits."""

import resource
import sys


def main() -> None:
    """Run `imagefactory` and exit with 0, 1, 2, 3, 4 or 130 (see docs/reference/cli.md)."""
    # A passphrase may be in our memory: it is not to get into a core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        from imagefactory.cli.app import run  # noqa: PLC0415 - without the extra, say so instead of a traceback
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(("imagefactory", "signing")):
            raise
        sys.stderr.write(
            f"error: this part of imagefactory is not installed ({error.name} is missing) [extra-missing]\n"
            "  to do: pip install 'imagefactory[build]'\n"
        )
        sys.exit(3)
    sys.exit(run(sys.argv[1:]))
