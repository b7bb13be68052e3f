"""References to IRIs in bills of materials, judged as by the grammar of RFC 3987."""

import json

import pytest

from imagefactory.errors import SbomInvalid
from imagefactory.tools.cyclonedx import validate

IRIS = (
    *("", "a", "a/b?c#d", "//host/a", "http://a.example/b", "http://ü.example/ä?ö#ß", "urn:uuid:1", "http://[::1]:80/"),
    *("mailto:a@b", "%41", "?", "#", "a:", "./a:b", "http://[v1.a]/", "\U0001f600", "1", "a@b", "http://:80"),
)  # fmt: skip
NO_IRIS = (
    *(" ", "a b", "a\n", "\n", "%", "%4", "%zz", "[", "a\\b", "a^b", "<a>", "a|b", "`", "{}", '"', "a\x00", "a\x7f"),
    *("http://[::1", "http://[:::1]/", "//a:b", ":", "1:", "a\ufdd0", "\ufffe", "a#b#c", "\x85", "http://a:b/"),
)  # fmt: skip


def is_valid(iri: str) -> bool:
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "externalReferences": [{"type": "website", "url": iri}],
    }
    try:
        validate(json.dumps(document).encode())
    except SbomInvalid:
        return False
    return True


@pytest.mark.parametrize("iri", IRIS)
def test_an_iri(iri: str) -> None:
    assert is_valid(iri)


@pytest.mark.parametrize("iri", NO_IRIS)
def test_no_iri(iri: str) -> None:
    assert not is_valid(iri)
