"""Small feeds of known vulnerabilities, made by hand in the forms that the security tracker and OSV document."""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any


def release(status: str = "open", urgency: str = "not yet assigned", **more: object) -> dict[str, Any]:
    """What the tracker says of an issue in one release."""
    return {"status": status, "repositories": {"bookworm": "1.0-1"}, "urgency": urgency, **more}


def issue(codename: str = "bookworm", **said: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    return {"description": "It is broken.", "debianbug": 1, "scope": "remote", "releases": {codename: release(**said)}}


def tracker(issues: Mapping[str, Mapping[str, object]]) -> bytes:
    """The tracker's JSON, by source package and issue."""
    return json.dumps(issues, separators=(",", ":")).encode()


def record(
    identifier: str,
    source: str,
    *,
    fixed: str | None = None,
    ecosystem: str = "Debian:12",
    urgency: str = "not yet assigned",
    score: str | None = None,
) -> dict[str, Any]:
    """An OSV record."""
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    return {
        "schema_version": "1.7.3",
        "id": f"DEBIAN-{identifier}",
        "modified": "2026-11-20T00:00:00Z",
        "upstream": [identifier],
        "details": "It is broken.",
        **({"severity": [{"type": "CVSS_V3", "score": score}]} if score else {}),
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": source, "purl": f"pkg:deb/debian/{source}?arch=source"},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
                "ecosystem_specific": {"urgency": urgency},
            }
        ],
    }


def array(records: Iterable[Mapping[str, Any]]) -> bytes:
    return json.dumps(list(records)).encode()


def lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def zipped(records: Iterable[Mapping[str, Any]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """As osv.dev exports an ecosystem: a file for each record."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for each in records:
            archive.writestr(f"{each['id']}.json", json.dumps(each))
    return made.getvalue()
