"""The policy: what is not approved is refused, and the file says it strictly."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import (
    BuilderNotApproved,
    ElementNotApproved,
    NameNotApproved,
    PolicyInvalid,
    PolicyMissing,
    RecipeNotApproved,
)
from imagefactory.factory import approvals as changes
from imagefactory.factory.keys import Custody, init_keys
from imagefactory.model.policy import ANY, EVERY_NAME, Approval, Policy, decode_policy, inputs_of
from imagefactory.settings import read_settings
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.policy_file import load_policy
from signing.errors import ProvenanceInvalid
from signing.keys import KeyRing
from signing.provenance import Provenance
from tests.unit.signing.builders import make_provenance

A, B, C = "a" * 64, "b" * 64, "c" * 64
APPROVAL = Approval(frozenset({A}), frozenset({B}), {"base": frozenset({C})}, frozenset({"boot"}))
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "development": False,
    "names": {"soe": {"builders": [A], "recipes": [B], "elements": {"base": [C]}, "evidence": ["boot"]}},
}

digests = st.frozensets(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=3)
approvals = st.builds(
    Approval,
    digests,
    digests,
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), digests, max_size=3),
    st.just(frozenset({"boot"})),
)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True), approvals, max_size=3))
def test_a_policy_comes_back_as_it_was(names: dict[str, Approval]) -> None:
    policy = Policy(False, names)
    assert decode_policy(policy.encode()) == policy


def test_a_policy_for_development_comes_back_as_it_was() -> None:
    policy = Policy(True, {EVERY_NAME: replace(APPROVAL, recipes=None, elements=None)})
    assert decode_policy(policy.encode()) == policy
    policy.approval("whatever").check("whatever", A, "anything", {"any": "thing"})


def test_people_can_read_it() -> None:
    assert '\n  "names": {\n    "soe": {' in Policy(False, {"soe": APPROVAL}).encode().decode()


def test_what_is_approved_passes() -> None:
    decode_policy(json.dumps(DOCUMENT).encode()).approval("soe").check("soe", A, B, {"base": C})


def test_an_empty_policy_refuses() -> None:
    with pytest.raises(NameNotApproved):
        Policy(False, {}).approval("soe")
    with pytest.raises(NameNotApproved):
        Policy(False, {"soe": APPROVAL}).approval("soe-2")


def test_the_first_rule_that_is_broken_is_named() -> None:
    with pytest.raises(BuilderNotApproved):
        APPROVAL.check("soe", B, A, {})
    with pytest.raises(RecipeNotApproved):
        APPROVAL.check("soe", A, A, {"base": A})
    for elements in ({"base": A}, {"base": C, "other": C}):
        with pytest.raises(ElementNotApproved):
            APPROVAL.check("soe", A, B, elements)


BAD: list[tuple[str, Any]] = [
    ("version", 2),
    ("version", True),
    ("development", 0),
    ("names", []),
    ("names", {"Soe": DOCUMENT["names"]["soe"]}),
    ("names", {EVERY_NAME: DOCUMENT["names"]["soe"]}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "recipes": ANY}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "elements": ANY}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "builders": ANY}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "builders": [A[:16]]}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "builders": [A.upper()]}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "recipes": [1]}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "elements": {"base": C}}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "elements": {"../base": [C]}}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "evidence": []}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "evidence": ["Boot"]}}),
    ("names", {"soe": {**DOCUMENT["names"]["soe"], "comment": "ok"}}),
    ("names", {"soe": {"builders": [A]}}),
    ("comment", "reviewed"),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=lambda value: str(value)[:60])
def test_anything_else_is_no_policy(key: str, value: object) -> None:
    with pytest.raises(PolicyInvalid):
        decode_policy(json.dumps({**DOCUMENT, key: value}).encode())


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    with pytest.raises(PolicyMissing, match=r"first\.json"):
        load_policy([first, second])
    second.write_bytes(Policy(False, {"soe": APPROVAL}).encode())
    assert load_policy([first, second]).names == {"soe": APPROVAL}
    first.write_bytes(b"")
    with pytest.raises(PolicyInvalid):
        load_policy([first, second])


def provenance(recipe: object, digest: object, dependencies: list[dict[str, Any]]) -> Provenance:
    return replace(
        make_provenance(()),
        external_parameters={"recipe": recipe, "recipeDigest": digest},
        resolved_dependencies=tuple(dependencies),
    )


RECIPE = {"name": "soe", "elements": ["base"], "description": "S\u00e4ule"}
DIGEST = {
    "sha256": sha256(json.dumps(RECIPE, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
}
BASE = {"name": "element/base", "digest": {"sha256": C}}


def test_the_inputs_of_a_provenance() -> None:
    found = inputs_of(provenance(RECIPE, DIGEST, [BASE, {"uri": "pkg:deb/debian/bash@5.2"}]))
    assert found == (DIGEST["sha256"], {"base": C})


@pytest.mark.parametrize(
    ("recipe", "digest", "dependencies"),
    [
        (RECIPE, {"sha256": A}, [BASE]),
        (RECIPE, None, [BASE]),
        (RECIPE, {**DIGEST, "sha512": A}, [BASE]),
        ([], DIGEST, [BASE]),
        (RECIPE, DIGEST, []),
        (RECIPE, DIGEST, [BASE, {**BASE, "digest": {"sha256": A}}]),
        (RECIPE, DIGEST, [{"name": "element/base"}]),
        (RECIPE, DIGEST, [{**BASE, "digest": {"sha256": "short"}}]),
    ],
)
def test_a_provenance_that_does_not_say_what_went_in(
    recipe: object, digest: object, dependencies: list[dict[str, Any]]
) -> None:
    with pytest.raises(ProvenanceInvalid):
        inputs_of(provenance(recipe, digest, dependencies))


@pytest.mark.parametrize("mode", [0o660, 0o646])
def test_a_policy_that_others_may_write_to(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(Policy(False, {"soe": APPROVAL}).encode())
    path.chmod(0o644)
    assert load_policy([path]).names
    path.chmod(mode)
    with pytest.raises(PolicyInvalid, match="written to by others"):
        load_policy([path])


@pytest.mark.parametrize(("mode", "good"), [(0o755, True), (0o775, False), (0o777, False), (0o1777, True)])
def test_a_policy_in_a_directory_that_others_may_write_to(tmp_path: Path, mode: int, good: bool) -> None:
    """Whoever may write to it can put another policy in place. What counts is where a link leads."""
    path = tmp_path / "there/policy.json"
    path.parent.mkdir()
    path.write_bytes(Policy(False, {}).encode())
    link = tmp_path / "policy.json"
    link.symlink_to(path)
    path.parent.chmod(mode)
    for candidate in (path, link):
        if good:
            assert load_policy([candidate]) == Policy(False, {})
        else:
            with pytest.raises(PolicyInvalid, match=str(path.parent)):
                load_policy([candidate])


def production_keys(directory: Path) -> KeyRing:
    custody = Custody(b"correct horse battery staple")
    return init_keys(directory / "keys", directory / "trust.json", custody, development=False, now=datetime.now(UTC))


def _named(name: str) -> Callable[[Policy], Policy]:
    return lambda policy: replace(policy, names={**policy.names, name: APPROVAL})


def test_no_change_undoes_another(tmp_path: Path) -> None:
    """While one is being made, somebody else removes a name: he waits, and both changes are there."""
    of = read_settings({"IMAGEFACTORY_HOME": str(tmp_path), "HOME": str(tmp_path)})
    changes.begin(of, production_keys(tmp_path))
    changes.change(of, _named("bad"))
    remover = threading.Thread(target=lambda: changes.change(of, lambda policy: changes.remove(policy, "bad")))

    def slow(policy: Policy) -> Policy:
        remover.start()
        remover.join(0.2)
        return _named("good")(policy)

    before, after = changes.change(of, slow)
    remover.join()
    assert (set(before.names), set(after.names)) == ({"bad"}, {"bad", "good"})
    assert set(changes.current(of).names) == {"good"}


def test_what_is_approved_by_wildcard_has_no_name_to_remove() -> None:
    with pytest.raises(NameNotApproved, match="does not name soe"):
        changes.remove(Policy(True, {EVERY_NAME: APPROVAL}), "soe")


def test_a_policy_is_changed_where_a_link_leads(tmp_path: Path) -> None:
    of = read_settings({"IMAGEFACTORY_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    changes.begin(of, production_keys(tmp_path))
    path = of.policy_files()[0]
    (tmp_path / "reviewed").mkdir()
    path.rename(tmp_path / "reviewed/policy.json")
    path.symlink_to(tmp_path / "reviewed/policy.json")
    _, after = changes.change(of, _named("soe"))
    assert path.is_symlink()
    assert load_policy([tmp_path / "reviewed/policy.json"]) == after
    changes.change(of, _named("other"), dry_run=True)
    changes.change(of, lambda policy: policy)
    assert changes.current(of) == after
    events = [entry.event for entry in AuditLog(of.audit).entries()]
    assert events == ["policy-changed"] * 2
