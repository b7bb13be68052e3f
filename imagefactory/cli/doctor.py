"""imagefactory doctor: can this machine build?"""

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.errors import HostError
from imagefactory.settings import read_settings
from imagefactory.tools.host import examine


def register(app: typer.Typer) -> None:
    app.command("doctor", epilog="Example: imagefactory doctor")(doctor)


@verb
def doctor(as_json: Json = False) -> None:
    """Say what this machine has, what it lacks, and the line that installs it."""
    checks = examine(read_settings())
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        mark = "ok  " if check.ok else "FAIL" if check.required else "warn"
        lines.append(f"{mark}  {check.name:{width}}  {check.found}")
        if not check.ok and check.fix:
            lines.append(f"      {'':{width}}  to do: {check.fix}")
    missing = [check for check in checks if check.required and not check.ok]
    answer({"ok": not missing, "checks": [vars(check) for check in checks]}, "\n".join(lines), as_json)
    if missing:
        raise typer.Exit(HostError.exit_code)
