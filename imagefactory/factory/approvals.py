"""The signer's policy as people change it: what a recipe needs is added by name, and the file is theirs to review."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import OutputExists
from imagefactory.model.policy import EVERY_NAME, Approval, Policy
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.settings import Settings
from imagefactory.tools import elements
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.policy_file import load_policy

EVIDENCE = frozenset({"boot"})


def element_digests(loaded: LoadedRecipe, settings: Settings) -> dict[str, str]:
    """Every element that a recipe is built from, with its digest. Raises errors about elements."""
    path = elements.search_path(loaded.files[0], settings.elements_path)
    return elements.digests(elements.expand(loaded.recipe.elements, path))


def begin(settings: Settings, builder: str | None) -> Path:
    """Write the first policy: an empty one, which approves nothing, or, for the development key of `builder`, one that
    approves whatever that key signed for. Returns where it is.

    Raises OutputExists.
    """
    path = settings.policy_files()[0]
    if os.path.lexists(path):
        raise OutputExists(f"there is already a policy {path}")
    anything = {EVERY_NAME: Approval(frozenset({builder}), None, None, EVIDENCE)} if builder else {}
    save(Policy(builder is not None, anything), settings)
    return path


def approve(
    policy: Policy, loaded: LoadedRecipe, found: Mapping[str, str], builders: Iterable[str], add: bool
) -> Policy:
    """The policy with a recipe and its elements (digests by name) as they are now, in place of what was approved for
    its name, or beside it."""
    before = policy.names.get(loaded.recipe.name)
    states = {name: frozenset({digest}) for name, digest in found.items()}
    new = Approval(frozenset(builders), frozenset({loaded.digest}), states, before.evidence if before else EVIDENCE)
    if add and before is not None:
        known = dict(before.elements or {})
        new = replace(
            new,
            builders=new.builders | before.builders,
            recipes=frozenset({loaded.digest}) | (before.recipes or frozenset()),
            elements={name: known.get(name, frozenset()) | states.get(name, frozenset()) for name in known | states},
        )
    return replace(policy, names={**policy.names, loaded.recipe.name: new})


def succeed(policy: Policy, old: str, new: str) -> Policy:
    """The policy in which a builder's new key may do what its old one may."""
    names = {
        name: replace(approval, builders=approval.builders | {new}) if old in approval.builders else approval
        for name, approval in policy.names.items()
    }
    return replace(policy, names=names)


def remove(policy: Policy, name: str) -> Policy:
    """The policy without a name. Raises NameNotApproved for one that is not in it."""
    if name not in policy.names:
        policy.approval(name)
    return replace(policy, names={other: approval for other, approval in policy.names.items() if other != name})


def save(policy: Policy, settings: Settings) -> None:
    """Put a policy in the place of the one in force, as a whole or not at all, and say so in the audit log."""
    path, raw = where(settings), policy.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    AuditLog(settings.audit).append("policy-changed", path=str(path), sha256=sha256(raw).hexdigest())
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        with made.open("xb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        made.replace(path)


def current(settings: Settings) -> Policy:
    """The policy in force. Raises PolicyMissing, PolicyInvalid."""
    return load_policy(settings.policy_files())


def where(settings: Settings) -> Path:
    """The file of the policy in force, or of the first one to be."""
    files = settings.policy_files()
    return next((path for path in files if os.path.lexists(path)), files[0])


def differences(before: Approval | None, after: Approval) -> list[str]:
    """What `after` approves that `before` did not, and the other way round, a line each."""
    old, new = _lines(before) if before else set(), _lines(after)
    return [f"+ {line}" for line in sorted(new - old)] + [f"- {line}" for line in sorted(old - new)]


def _lines(approval: Approval) -> set[str]:
    recipes = {"any"} if approval.recipes is None else approval.recipes
    states = {"any": frozenset({"any"})} if approval.elements is None else approval.elements
    return {
        *(f"builder {keyid}" for keyid in approval.builders),
        *(f"recipe sha256:{digest}" for digest in recipes),
        *(f"element {name} sha256:{digest}" for name, digests in states.items() for digest in digests),
        *(f"evidence {kind}" for kind in approval.evidence),
    }
