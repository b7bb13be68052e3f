"""The signer's policy as people change it: what a recipe needs is added by name, and the file is theirs to review."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import NameNotApproved, OutputExists
from imagefactory.factory.base import asked
from imagefactory.model.policy import EVERY_NAME, Approval, Policy
from imagefactory.model.recipe import LoadedRecipe, Recipe
from imagefactory.settings import Settings
from imagefactory.tools import elements
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.durable import held, replace_file, translated
from imagefactory.tools.policy_file import load_policy
from signing.keys import KeyRing

EVIDENCE = frozenset({"boot"})


def element_digests(loaded: LoadedRecipe, settings: Settings) -> dict[str, str]:
    """Every element that a recipe is built from, with its digest. Raises errors about elements."""
    path = elements.search_path(loaded.files[0], settings.elements_path)
    return elements.digests(elements.expand(asked(loaded.recipe), path))


def begin(settings: Settings, ring: KeyRing) -> Path:
    """Write the first policy: an empty one, which approves nothing, or, where `ring` is for development, one that
    approves whatever its builder signed for. Returns where it is.

    Raises OutputExists, Unwritable, errors about keys.
    """
    path = settings.policy_files()[0]
    anything: dict[str, Approval] = {}
    if ring.development:
        anything[EVERY_NAME] = Approval(frozenset({ring.keyid("provenance")}), None, None, EVIDENCE)
    with _alone(path):
        if os.path.lexists(path):
            raise OutputExists(f"there is already a policy {path}")
        _save(path, Policy(ring.development, anything), settings)
    return path


def change(settings: Settings, how: Callable[[Policy], Policy], *, dry_run: bool = False) -> tuple[Policy, Policy]:
    """Make the policy in force another one, and say so in the audit log. Returns what was in force, and what `how` made
    of it; nobody else changes it meanwhile. With `dry_run`, or where `how` changes nothing, nothing is written.

    Raises PolicyMissing, PolicyInvalid, Unwritable, and what `how` raises.
    """
    path = where(settings)
    with _alone(path):
        before = current(settings)
        after = how(before)
        if after != before and not dry_run:
            _save(path, after, settings)
    return before, after


def approve(
    policy: Policy, loaded: LoadedRecipe, found: Mapping[str, str], builders: Iterable[str], add: bool
) -> Policy:
    """The policy with a recipe and its elements (digests by name) as they are now, in place of what was approved for
    its name, or beside it."""
    before = policy.names.get(loaded.recipe.name)
    states = {name: frozenset({digest}) for name, digest in found.items()}
    evidence = (before.evidence if before else EVIDENCE) | _wanted(loaded.recipe)
    new = Approval(frozenset(builders), frozenset({loaded.digest}), states, evidence)
    if add and before is not None:
        known = dict(before.elements or {})
        new = replace(
            new,
            builders=new.builders | before.builders,
            recipes=frozenset({loaded.digest}) | (before.recipes or frozenset()),
            elements={name: known.get(name, frozenset()) | states.get(name, frozenset()) for name in known | states},
        )
    return replace(policy, names={**policy.names, loaded.recipe.name: new})


def _wanted(recipe: Recipe) -> frozenset[str]:
    """The kinds of evidence that a recipe asks for."""
    parts = {"compliance": recipe.compliance, "vulnerabilities": recipe.vulnerabilities}
    return frozenset(kind for kind, part in parts.items() if part is not None)


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
        raise NameNotApproved(f"the policy does not name {name}", advice="`imagefactory policy show` lists its names.")
    return replace(policy, names={other: approval for other, approval in policy.names.items() if other != name})


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


def _save(path: Path, policy: Policy, settings: Settings) -> None:
    raw = policy.encode()
    AuditLog(settings.audit).append("policy-changed", path=str(path), sha256=sha256(raw).hexdigest())
    replace_file(path, raw)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Who comes second waits: a change takes no time. The lock is on the directory of the policy itself, which several
    homes may share. Raises Unwritable."""
    with ExitStack() as stack:
        with translated(path):
            stack.enter_context(held(Path(os.path.realpath(path)).parent))
        yield
