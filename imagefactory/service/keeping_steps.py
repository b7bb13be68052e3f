"""Steps of those who look after releases: they decide in the records, and have other roles do it."""

from datetime import UTC, datetime

from imagefactory.errors import CloudsUnasked, DriftFound, FactoryError, PlacesLeft
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.loop import Factory
from imagefactory.lifecycle.audit import Question
from imagefactory.model.job import JobState
from imagefactory.model.quantity import counted
from imagefactory.model.target import CataloguePlace, parse_place
from imagefactory.service.outcome import Errand, Order, Outcome


def apply(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """Retire what is due by the policies of all images, and finish what was left. Raises PlacesLeft."""
    del errand, order
    sweep = factory.office.sweep
    plan = sweep.plan(factory.office.keeper.ledger.names(), datetime.now(UTC))
    settlements = sweep.apply(plan)
    left = [*plan.unknown, *(each for settlement in settlements for each in settlement.left)]
    if left:
        places = ", ".join(sorted({each.target for each in left}))
        raise PlacesLeft(f"{places} is not as it should be: {left[0].failure}")
    return Outcome({"said": f"{counted(len(plan.due()), 'release')} retired"}, end=JobState.DONE)


def audit(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """Hold published images against what was signed and recorded; nothing is changed. Raises DriftFound,
    CloudsUnasked."""
    del errand, order
    office = factory.office
    question = Question(office.keeper.ledger.names(), None, deep=False, fix=False, retire_strays=False)
    found = office.inspection.audit(question, datetime.now(UTC))
    drifted = [each.target for each in found if each.drifted]
    if drifted:
        raise DriftFound(f"not everything is as it should be in {', '.join(drifted)}")
    for each in found:
        for about, failure in each.failures:
            raise CloudsUnasked(f"{each.target} could not be asked about {about}: {failure}")
    return Outcome({"said": f"all is well in {counted(len(found), 'cloud')}"}, end=JobState.DONE)


def refresh(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """Have what catalogues say signed anew where it has little time left. One that cannot be reached stops no other.
    Raises the error of the first one."""
    del errand, order
    catalogues = Catalogues(factory.settings, factory.trust_file, factory.progress, factory.hands)
    targets = (each.target for release in factory.records.releases() for each in release.publications)
    places = [each for each in dict.fromkeys(map(parse_place, targets)) if isinstance(each, CataloguePlace)]
    failures: list[FactoryError] = []
    for place in places:
        try:
            catalogues.refresh(place.root)
        except FactoryError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
    return Outcome({"said": f"{counted(len(places), 'catalogue')} looked after"}, end=JobState.DONE)
