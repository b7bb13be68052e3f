"""Many images without data, straight into Glance's database: by requests they would take longer than any test."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tests.database import records_at
from tests.openstack.state import State

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """An active image, as far as its description goes."""

    name: str
    size: int
    sha512: str
    hidden: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)


def add_images(state: State, owner: str, records: Iterable[Record]) -> list[str]:
    """Have the project `owner` (an id) own these images, a minute apart. Returns their ids in the same order."""
    ids = list[str]()
    with records_at(state.file("db", "glance.db")) as database:
        for number, record in enumerate(records):
            image_id, made = str(uuid4()), _time(EPOCH + timedelta(minutes=number))
            _insert(
                database,
                "images",
                {
                    "id": image_id,
                    "name": record.name,
                    "size": record.size,
                    "status": "active",
                    "created_at": made,
                    "updated_at": made,
                    "deleted": 0,
                    "disk_format": "qcow2",
                    "container_format": "bare",
                    "owner": owner,
                    "min_disk": 2,
                    "min_ram": 512,
                    "protected": 0,
                    "visibility": "private",
                    "os_hidden": int(record.hidden),
                    "os_hash_algo": "sha512",
                    "os_hash_value": record.sha512,
                },
            )
            for name, value in record.properties.items():
                said = {"image_id": image_id, "name": name, "value": value, "created_at": made, "deleted": 0}
                _insert(database, "image_properties", said)
            ids.append(image_id)
    return ids


def _insert(database: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    """Table and columns are ours; the values are bound."""
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


def _time(moment: datetime) -> str:
    """As SQLAlchemy writes it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
