"""What an audit of clouds found, for people and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from imagefactory.cli.output import answer, describe, leave
from imagefactory.cli.tables import print_table, table_of
from imagefactory.errors import CloudsUnasked, DriftFound
from imagefactory.model.quantity import counted

if TYPE_CHECKING:
    from imagefactory.lifecycle.audit import Audited
    from imagefactory.model.drift import Finding
    from imagefactory.model.strays import Stray
    from imagefactory.model.survey import SurveyedImage

Row = tuple[str, str, str, str]
_UNDO = {"hidden": "--unhidden", "deactivated": "--activate"}  # of openstack image set


def tell_audit(found: "Sequence[Audited]", as_json: bool) -> None:
    """The answer: a line for everything that is not as it should be, was not, or is worth knowing."""
    if as_json:
        answer({"places": [_document(each) for each in found]}, "", as_json)
        return
    table = table_of("WHERE", "WHAT", "HOW IT IS", "SO")
    for each in found:
        for row in _rows(each):
            table.add_row(*row)
    count = sum(len(each.findings) for each in found)
    if table.rows:
        print_table(table)
    elif not count:
        answer({}, "nothing is published in a cloud", as_json)
    else:
        images, clouds = counted(count, "image"), counted(len(found), "cloud")
        verb = "is as it was" if count == 1 else "are as they were"
        answer({}, f"{images} in {clouds} {verb} signed and recorded", as_json)


def leave_audit(found: "Sequence[Audited]", as_json: bool) -> None:
    """End with an error when something has drifted, or else when somebody could not be asked."""
    drifted = [each.target for each in found if each.drifted]
    if drifted:
        raise leave(DriftFound(f"not everything is as it should be in {', '.join(drifted)}"), as_json)
    for each in found:
        for about, failure in each.failures:
            raise leave(CloudsUnasked(f"{each.target} could not be asked about {about}: {failure}"), as_json)


def _rows(audited: "Audited") -> Iterator[Row]:
    where = audited.target
    for finding in audited.findings:
        for what, how, done in _said(finding):
            yield where, f"{finding.release} {what}".rstrip(), how, done
    for stray in audited.strays:
        yield where, f"image {stray.image.id}", f"says {stray.image.release}, and no record knows it", _known(stray)
    for same in audited.duplicates:
        yield where, same[0].release, f"is there {len(same)} times: {', '.join(each.id for each in same)}", ""
    for other in audited.intruders:
        yield where, f"image {other.id}", f"is called {other.name}, and is not ours", "it was not touched"
    for about, failure in audited.failures:
        yield where, about, "could not be asked", str(failure)


def _said(finding: "Finding") -> Iterator[tuple[str, str, str]]:
    for drift in finding.drift:
        how = f"{drift.found if drift.found is not None else 'not there'}, not {drift.expected or 'there'}"
        yield drift.what, how, "fixed" if drift.fixed else drift.advice or "--fix puts it right"
    if finding.code is not None:
        yield "", f"{finding.message} [{finding.code}]", "not seen, or not fixed, to the end"
    for note in finding.notes:
        yield "", note, "no drift"


def _known(stray: "Stray") -> str:
    """What was done about a stray, and how to take that back; or why nothing was."""
    if stray.done:
        undo = [option for what, option in _UNDO.items() if what in stray.done]
        said = f"{' and '.join(stray.done)}; openstack image set {' '.join(undo)} {stray.image.id} takes that back"
        return f"{said}; {stray.message} [{stray.code}]" if stray.code else said
    if stray.code is not None:
        return f"not touched: {stray.message} [{stray.code}]"
    if stray.retired:
        return "hidden and deactivated already"
    if stray.kept_by is not None:
        return f"{stray.kept_by}, and is not touched"
    first = "seen first now" if stray.since is None else f"seen first at {_when(stray.since)}"
    return f"{first}, not touched before {_when(stray.due)} (--retire-strays)"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _document(audited: "Audited") -> dict[str, Any]:
    return {
        "target": audited.target,
        "drifted": audited.drifted,
        "images": [asdict(each) for each in audited.findings],
        "strays": [
            {
                **_brief(each.image),
                "seen_before": each.since is not None,
                "since": each.since and each.since.isoformat(),
                "not_before": each.due.isoformat(),
                "done": list(each.done),
                "retired": each.retired,
                "kept_by": each.kept_by,
                "code": each.code,
                "message": each.message,
            }
            for each in audited.strays
        ],
        "duplicates": [[_brief(each) for each in same] for same in audited.duplicates],
        "intruders": [asdict(each) for each in audited.intruders],
        "unasked": [{"about": about, **describe(failure)} for about, failure in audited.failures],
    }


def _brief(image: "SurveyedImage") -> dict[str, Any]:
    return {
        "image_id": image.id,
        "release": image.release,
        "name": image.name,
        "status": image.status,
        "hidden": image.hidden,
        "size": image.size,
    }
