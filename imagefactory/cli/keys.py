"""imagefactory keys: made on request, never on the fly."""

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.errors import UsageError
from imagefactory.factory import approvals
from imagefactory.settings import read_settings
from signing.development import init_development
from signing.keys import PURPOSES

app = typer.Typer(no_args_is_help=True, help="The keys of this factory, one for each purpose.")


@app.command("init", epilog="Example: imagefactory keys init --development")
@verb
def init(
    development: Annotated[
        bool, typer.Option("--development", help="Keys in plain files, marked so; never for a public image.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a key for each purpose, and the trust file that believes them."""
    if not development:
        raise UsageError("only development keys can be made", advice="say keys init --development")
    settings = read_settings()
    trust = settings.home / "trust.json"
    ring = init_development(settings.keys, trust, now=datetime.now(UTC))
    made = {purpose: ring.keyid(purpose) for purpose in PURPOSES}
    if not any(map(os.path.lexists, settings.policy_files())):
        approvals.begin(settings, ring.keyid("provenance") if ring.development else None)
    lines = [f"{purpose:10} {keyid}" for purpose, keyid in made.items()]
    policy = approvals.where(settings)
    lines += [f"keys   {settings.keys}", f"trust  {trust}", f"policy {policy}"]
    where = {"directory": str(settings.keys), "trust": str(trust), "policy": str(policy)}
    answer({"keys": made, **where}, "\n".join(lines), as_json)
