"""Steps of those who sign: they have keys, and what they are handed says nothing that they believe."""

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Final

from imagefactory.errors import StateConflict
from imagefactory.factory.attested import Attested
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.course import Course
from imagefactory.factory.key_inventory import inventory
from imagefactory.factory.loop import Factory
from imagefactory.model import plan
from imagefactory.model.job import JobState, NewTask, Role
from imagefactory.model.quantity import counted
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import advancer
from imagefactory.service.asking import EXPIRIES
from imagefactory.service.outcome import Errand, Order, Outcome, logged
from imagefactory.store.records import build_version
from imagefactory.store.tables import Build
from imagefactory.tools.durable import translated
from signing.keys import KeyRing
from signing.trust import load_trust

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
    ref = ReleaseRef.parse(f"{order.name}@{attested.version}")  # it becomes names of files
    builds = factory.records.builds(ref.name)
    build = next((each for each in builds if each.id == payload["build"]), None)
    if build is None or (attested.name, build_version(build)) != (ref.name, ref.version):
        raise StateConflict(f"there is no build {payload['build']} of {ref}")
    with factory.locks.name(ref.name):
        factory.clear(ref.name)
        if not _is_there(factory, build):
            _sign(factory, attested, build)
    said = {"said": str(ref), "host": socket.gethostname(), **logged(_log(factory, attested, build))}
    if not payload["targets"]:
        return Outcome(said, end=JobState.RELEASED, release=str(ref))
    then = {"release": str(ref), "targets": payload["targets"], "end": JobState.RELEASED}
    return Outcome(said, [NewTask(Role.PUBLISH, plan.PUBLISH, payload=then)], release=str(ref))


def expiries(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """When the keys and certificates that are used here expire. Raises KeyDamaged, KeysMissing, errors of the trust
    file."""
    del errand, order
    entries = inventory(load_trust(factory.trust_file), KeyRing(factory.settings.keys))
    found = [
        {"purpose": each.purpose, "keyid": each.keyid, "expires": each.expires.isoformat()}
        for each in entries
        if each.expires is not None
    ]
    said = f"looked at {counted(len(found), 'key')} with an end"
    return Outcome({"said": said, EXPIRIES: found, "host": socket.gethostname()}, end=JobState.DONE)


def in_catalogue(errand: Errand, factory: Factory) -> Outcome:
    """Change what a catalogue says, for somebody who waits for it. Raises what the signer raises."""
    request = {**errand.payload, "action": errand.step, "catalogue": str(errand.subject)}
    hands = factory.hands
    hands.open_keys()
    on_advance = advancer(factory.progress, errand.title)
    return Outcome(hands.sign(request, factory.trust_file, None, on_advance))


def _is_there(factory: Factory, build: Build) -> bool:
    """Whether a build has its release: somebody died right after that."""
    return any(each.build_id == build.id for each in factory.records.releases(build.name))


def _log(factory: Factory, attested: Attested, build: Build) -> Path:
    return factory.settings.build_logs(build.name, attested.version) / f"{plan.SIGN}.log"


def _sign(factory: Factory, attested: Attested, build: Build) -> None:
    log = _log(factory, attested, build)
    with translated(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
    work = factory.settings.work / build.id  # by which whoever comes after us finds it
    with translated(work):
        work.mkdir(mode=0o700)
    try:
        factory.signing.sign(attested, build, work, log)
    finally:
        shutil.rmtree(work, ignore_errors=True)
