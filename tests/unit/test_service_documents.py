"""What goes between a worker and the process of a step comes back as it was."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from imagefactory.factory.course import Course
from imagefactory.factory.view import Packages
from imagefactory.model.job import JobState, NewTask, Role
from imagefactory.model.packages import Change
from imagefactory.service.outcome import Errand, Order, Outcome

TEXT = st.text(max_size=20)
MAYBE = st.none() | TEXT
PLAIN = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=3), max_size=4)
PACKAGES = st.builds(Packages, TEXT, st.lists(st.builds(Change, TEXT, MAYBE, MAYBE), max_size=3).map(tuple))
COURSES = st.builds(
    Course,
    recipe=MAYBE,
    packages=st.none() | PACKAGES,
    done=st.frozensets(TEXT, max_size=4),
    build=MAYBE,
    checked=st.booleans(),
    signed=MAYBE,
    logs=st.dictionaries(TEXT, TEXT, max_size=3),
    worked=st.booleans(),
)
ORDERS = st.builds(Order, TEXT, TEXT, TEXT, st.booleans(), st.booleans(), PLAIN)
ERRANDS = st.builds(Errand, st.sampled_from(Role), TEXT, MAYBE, PLAIN, st.none() | ORDERS)
TASKS = st.builds(NewTask, st.sampled_from(Role), TEXT, MAYBE, PLAIN)
OUTCOMES = st.builds(
    Outcome,
    PLAIN,
    st.lists(TASKS, max_size=3).map(tuple),
    st.none() | PLAIN,
    st.none() | st.sampled_from(JobState),
    MAYBE,
)


def through_json(document: Any) -> Any:  # noqa: ANN401
    return json.loads(json.dumps(document))


@given(COURSES)
def test_a_course(course: Course) -> None:
    assert Course.from_json(through_json(course.to_json())) == course


@given(ERRANDS)
def test_an_errand(errand: Errand) -> None:
    assert Errand.from_json(through_json(errand.to_json())) == errand


@given(OUTCOMES)
def test_an_outcome(outcome: Outcome) -> None:
    assert Outcome.from_json(through_json(outcome.to_json())) == outcome
