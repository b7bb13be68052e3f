"""Steps of those who sign: they have keys, and what they are handed says nothing that they believe."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from imagefactory.errors import StateConflict
from imagefactory.factory.attested import Attested
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.course import Course
from imagefactory.factory.loop import Factory
from imagefactory.model import plan
from imagefactory.model.job import JobState, NewTask, Role
from imagefactory.progress import advancer
from imagefactory.service.outcome import Errand, Order, Outcome
from imagefactory.store.records import release_version
from imagefactory.store.tables import Build, Release
from imagefactory.tools.durable import translated
from imagefactory.tools.scratch import scratch

CATALOGUE_ACTIONS: Final = frozenset({"begin", "list", "relist", "refresh"})
"""What the signer does in a catalogue for whoever may ask it (hands/signer.py). Roots are not among them."""


def check(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """See, before any work, that a release could be signed, and listed where it is to go. Raises SignerRefused,
    CatalogueUninitialised, KeysMissing."""
    catalogues = Catalogues(factory.settings, factory.trust_file)
    for root in errand.payload["catalogues"]:
        catalogues.require_ready(Path(root))
    newest = factory.signing.check({**errand.payload["order"], "action": "check", "name": order.name})
    course = replace(Course.from_json(order.course), checked=True, signed=str(newest) if newest else None)
    then = errand.payload["then"]
    task = NewTask(Role(then["role"]), then["step"], then["subject"])
    return Outcome({"said": "it may be signed"}, [task], course.to_json())


def sign(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """Sign what a builder attested. Raises what the signer raises, ArtifactMissing, StateConflict."""
    payload = errand.payload
    attested = Attested.from_json(payload["attested"])
    builds = factory.records.builds(order.name)
    build = next((each for each in builds if each.id == payload["build"]), None)
    if build is None or attested.name != order.name:
        raise StateConflict(f"there is no build {payload['build']} of {order.name}")
    with factory.locks.name(order.name):
        release = _there(factory, attested, build) or _signed(factory, attested, build)
    ref = f"{release.name}@{release_version(release)}"
    if not payload["targets"]:
        return Outcome({"said": ref}, end=JobState.RELEASED, release=ref)
    then = {"release": ref, "targets": payload["targets"], "end": JobState.RELEASED}
    return Outcome({"said": ref}, [NewTask(Role.PUBLISH, plan.PUBLISH, payload=then)], release=ref)


def in_catalogue(errand: Errand, factory: Factory) -> Outcome:
    """Change what a catalogue says, for somebody who waits for it. Raises what the signer raises."""
    request = {**errand.payload, "action": errand.step, "catalogue": str(errand.subject)}
    hands = factory.hands
    hands.open_keys()
    on_advance = advancer(factory.progress, errand.title)
    return Outcome(hands.sign(request, factory.trust_file, None, on_advance))


def _there(factory: Factory, attested: Attested, build: Build) -> Release | None:
    """The release of a build, where somebody died right after it."""
    releases = factory.records.releases(attested.name)
    return next((each for each in releases if each.build_id == build.id), None)


def _signed(factory: Factory, attested: Attested, build: Build) -> Release:
    log = factory.settings.build_logs(build.name, attested.version) / f"{plan.SIGN}.log"
    with translated(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
    with scratch(factory.settings.work, f"{plan.SIGN}.") as work:
        return factory.signing.sign(attested, build, work, log)
