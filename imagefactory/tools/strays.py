"""What audits remember of images that no record knows: since when each was seen.

The memory only says which of them are no passing guests, so one that cannot be read begins anew.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, TypeAdapter, ValidationError

from imagefactory.tools.durable import held, put_file, translated

FILE: Final = "seen.json"


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_Seen = TypeAdapter(dict[str, dict[str, Annotated[datetime, AfterValidator(_aware)]]])


def remember(directory: Path, project: str, image_ids: Collection[str], now: datetime) -> dict[str, datetime]:
    """Remember that these, and no others, are the strays of `project` (a text of any kind) at `now` (aware). Returns
    since when those are known that an earlier audit saw, too. Raises Unwritable."""
    with translated(directory), held(directory):
        seen = _read(directory / FILE)
        before = {key: since for key, since in seen.get(project, {}).items() if key in image_ids}
        after = {**seen, project: {**dict.fromkeys(image_ids, now), **before}}
        if after != seen:
            put_file(directory / FILE, _Seen.dump_json(after))
    return before


def _read(path: Path) -> dict[str, dict[str, datetime]]:
    try:
        return _Seen.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
