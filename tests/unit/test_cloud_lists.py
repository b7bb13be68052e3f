"""Whatever a service lists, it becomes facts, or an error with a name: nothing else comes out, and not without end."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefactory.errors import CloudAnswerInvalid
from imagefactory.model.survey import Survey
from imagefactory.steps import glance_survey
from imagefactory.steps.glance_survey import survey
from imagefactory.tools.openstack.glance import MAX_MEMBER, Glance
from tests.fakes.hostile import DATE, EMPTY, Hostile
from tests.fuzz import clouds
from tests.unit.test_glance_image import json_values

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def some_of(*records: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Such records with anything for some of what they say."""
    changes = st.dictionaries(st.sampled_from(sorted({key for each in records for key in each})), json_values)
    return st.builds(lambda record, changed: {**record, **changed}, st.sampled_from(records), changes)


def answers(**records: Sequence[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """Bodies of answers, a line each: lists of such records, or any JSON."""
    lists = [st.fixed_dictionaries({key: st.lists(some_of(*each), max_size=3)}) for key, each in records.items()]
    documents = st.lists(st.one_of(*lists, json_values), max_size=10)
    return documents.map(lambda found: b"\n".join(json.dumps(each).encode() for each in found))


@settings(deadline=None)
@given(answers(images=[clouds.OURS, clouds.THEIRS], members=[{"member_id": "def"}]))
def test_images(bodies: bytes) -> None:
    clouds.image_list(DATE + b"\n" + bodies)


@settings(deadline=None)
@given(st.permutations(clouds.USAGE_LISTS[0].split(b"\n")), answers(servers=clouds.SERVERS, volumes=clouds.VOLUMES))
def test_servers_and_volumes(good: list[bytes], bodies: bytes) -> None:
    clouds.usage_list(b"\n".join([*good[: len(bodies) % 9], bodies]))


def looked(*bodies: object, date: bytes = DATE, members: bool = False) -> Survey:
    made = Hostile([json.dumps(each).encode() for each in bodies], date)
    return survey(made.cloud, names=("Debian 12",), members=members, clock=lambda: NOW)


@pytest.mark.parametrize("date", [b"Fri, 31 Dec 9999 23:59:59 -2300", b"", b"\xff"])
def test_a_date_that_is_none_says_nothing(date: bytes) -> None:
    assert looked({"images": []}, date=date).server_time is None


@pytest.mark.parametrize("name", [[], {}, None, 7, ["Debian 12"]], ids=str)
def test_an_image_of_others_whose_name_is_none_has_none_of_our_names(name: object) -> None:
    listed = {"id": clouds.OTHER, "owner": "abc", "name": name}
    assert looked({"images": [listed]}) == Survey("abc", (), (), NOW)


@pytest.mark.parametrize("member", [None, 7, "", [], "x" * (MAX_MEMBER + 1)], ids=lambda it: str(it)[:9])
def test_a_member_that_is_none(member: object) -> None:
    made = Hostile([json.dumps({"members": [{"member_id": "def"}, {"member_id": member}]}).encode()])
    with pytest.raises(CloudAnswerInvalid):
        Glance(made.cloud).members(clouds.IMAGE)


def test_members_count_among_what_images_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer is bounded, and so are all of them."""
    empty = json.loads(EMPTY)
    said = ({"images": [clouds.OURS]}, empty, empty, {"members": [{"member_id": "x" * 200}] * 10})
    assert [each.members for each in looked(*said, members=True).images] == [("x" * 200,) * 10]
    monkeypatch.setattr(glance_survey, "MOST_KEPT", 1500)
    assert len(looked(*said).images) == 1
    with pytest.raises(CloudAnswerInvalid, match="more than any should"):
        looked(*said, members=True)
