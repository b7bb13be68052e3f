"""imagefactory policy: what the signer may sign."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import RecipeFile, read_recipe
from imagefactory.factory import approvals
from imagefactory.model.policy import Policy
from imagefactory.settings import read_settings
from signing.keys import KeyRing
from signing.trust import find_trust, load_trust

app = typer.Typer(no_args_is_help=True, help="What the signer may sign: approved recipes, elements and builders.")

Builders = Annotated[
    list[str] | None,
    typer.Option("--builder", metavar="KEYID", help="A builder's key. Default: every one in the trust file."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]


@app.command("init", epilog="Example: imagefactory policy init")
@verb
def init(as_json: Json = False) -> None:
    """Make a policy that approves nothing yet; for development keys, one that approves what they build."""
    settings = read_settings()
    path = approvals.begin(settings, KeyRing(settings.keys))
    answer({"policy": str(path)}, f"policy {path}", as_json)


@app.command("show", epilog="Example: imagefactory policy show")
@verb
def show(as_json: Json = False) -> None:
    """Show what is approved."""
    settings = read_settings()
    policy = approvals.current(settings)
    lines = [f"policy {approvals.where(settings)}{', for development' if policy.development else ''}"]
    for name, approval in sorted(policy.names.items()):
        lines += [name, *(line.replace("+ ", "  ", 1) for line in approvals.differences(None, approval))]
    if not policy.names:
        lines.append("approves nothing")
    answer(_document(policy), "\n".join(lines), as_json)


@app.command("approve", epilog="Example: imagefactory policy approve --dry-run recipes/soe-debian-12.yaml")
@verb
def approve(
    recipe: RecipeFile,
    builder: Builders = None,
    add: Annotated[
        bool, typer.Option("--add", help="Beside what is approved for this name, not in its place.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Approve a recipe and its elements, as they are now."""
    settings = read_settings()
    loaded = read_recipe(recipe, settings)
    builders = builder or list(load_trust(find_trust(settings.trust_files())).provenance)
    found = approvals.element_digests(loaded, settings)
    name = loaded.recipe.name
    before, after = approvals.change(
        settings, lambda policy: approvals.approve(policy, loaded, found, builders, add), dry_run=dry_run
    )
    lines = approvals.differences(before.names.get(name), after.names[name])
    _tell(approvals.where(settings), name, lines, after != before, dry_run, as_json)


@app.command("remove", epilog="Example: imagefactory policy remove soe-debian-12")
@verb
def remove(
    name: Annotated[str, typer.Argument(help="The name of an image.", show_default=False)],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Approve nothing of this name any more."""
    settings = read_settings()
    before, after = approvals.change(settings, lambda policy: approvals.remove(policy, name), dry_run=dry_run)
    gone = [line.replace("+ ", "- ", 1) for line in approvals.differences(None, before.names[name])]
    _tell(approvals.where(settings), name, gone, after != before, dry_run, as_json)


@app.command("check", epilog="Example: imagefactory policy check recipes/soe-debian-12.yaml")
@verb
def check(recipe: RecipeFile, builder: Builders = None, as_json: Json = False) -> None:
    """Tell whether the signer may sign what this recipe builds now; exit 1 and the rule that refuses if not."""
    settings = read_settings()
    loaded = read_recipe(recipe, settings)
    approval = approvals.current(settings).approval(loaded.recipe.name)
    found = approvals.element_digests(loaded, settings)
    for keyid in builder or list(load_trust(find_trust(settings.trust_files())).provenance):
        approval.check(loaded.recipe.name, keyid, loaded.digest, found)
    answer({"approved": loaded.recipe.name}, f"{loaded.recipe.name} is approved", as_json)


def _tell(path: Path, name: str, lines: Sequence[str], changed: bool, dry_run: bool, as_json: bool) -> None:
    state = "nothing changed" if not changed else "would change" if dry_run else "changed"
    document = {"policy": str(path), "name": name, "changed": changed and not dry_run, "changes": list(lines)}
    answer(document, "\n".join([f"{name} in {path}: {state}", *lines]), as_json)


def _document(policy: Policy) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(policy.encode())
    return found
