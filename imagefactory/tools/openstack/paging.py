"""Long lists of a service, page by page, as Nova and Cinder cut them.

The marker of a page is the id of the last record before it (docs.openstack.org/api-ref). The links that a service
makes are not followed: one that lost `all_tenants` on its way would end in a short list. A list has ended when there
is nothing after its last record, whatever the length of the page before.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from imagefactory.errors import CloudAnswerInvalid, CloudAnswerTooLarge, CloudQuota, CloudUnreachable
from imagefactory.tools.openstack.session import MOST_WORDS, Again, Answer

Record: TypeAlias = dict[str, Any]
PAGE: Final = 1000  # records; a service may give fewer at once
LEAST_PAGE: Final = 15
MOST_RECORDS: Final = 1_000_000
WHOLE_LIST: Final = 3600.0  # seconds for all pages to arrive
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def pages(place: str, key: str, ask: Callable[[Mapping[str, str]], object]) -> Iterator[list[Record]]:
    """The pages of a list, none of them empty. `ask` gets limit and marker and returns the document whose `key` holds
    the records; what is too much for us or for the service (413) is asked for in smaller pages.

    Raises CloudAnswerInvalid when it goes in circles, is longer than MOST_RECORDS, takes longer than WHOLE_LIST or is
    no list of records.
    """
    limit, count, deadline = PAGE, 0, time.monotonic() + WHOLE_LIST
    query: dict[str, str] = {}
    passed: set[str] = set()
    while True:
        try:
            listed = records(place, key, ask({"limit": str(limit), **query}))
        except (CloudAnswerTooLarge, CloudQuota):
            if limit // 4 < LEAST_PAGE:
                raise
            limit //= 4
            continue
        if not listed:
            return
        yield listed
        count += len(listed)
        marker = listed[-1]["id"]
        if marker in passed:
            raise CloudAnswerInvalid(f"{place}: the list of {key} comes to {marker} again and again")
        if count > MOST_RECORDS:
            raise CloudAnswerInvalid(f"{place}: more than {MOST_RECORDS} {key}")
        if time.monotonic() > deadline:
            raise CloudAnswerInvalid(f"{place}: the list of {key} has not ended after {WHOLE_LIST:.0f} s")
        passed.add(marker)
        query = {"marker": marker}


def document_of(place: str, key: str, answer: Answer, query: Mapping[str, str]) -> object:
    """What was answered to `query`, one of a list of `key` if it has a marker. Raises CloudAnswerInvalid; and Again
    when the service does not find its place in the list any more, so that the whole of it is read anew."""
    if answer.status in {400, 404} and "marker" in query:
        raise Again(CloudUnreachable(f"{place}: the list of {key} changed while it was read"))
    if answer.status != 200:
        raise CloudAnswerInvalid(f"{place}: {answer.words} ({answer.status})")
    found: object = answer.json()
    return found


def records(place: str, key: str, document: object) -> list[Record]:
    """The records of one page, each with an id. Raises CloudAnswerInvalid."""
    listed = document.get(key) if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise CloudAnswerInvalid(f"{place}: a list of {key} that is none")
    for each in listed:
        name = each.get("id") if isinstance(each, dict) else None
        if not isinstance(name, str) or _ID.fullmatch(name) is None:
            raise CloudAnswerInvalid(f"{place}: one of the {key} has no id: {str(each)[:MOST_WORDS]!r}")
    return listed
