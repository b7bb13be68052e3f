"""A catalogue is one place, however its path was spelled: without `..`, and as symbolic links call it."""

from posixpath import normpath

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CATALOGUE = "catalogue:"


def upgrade() -> None:
    connection = op.get_bind()
    # Of two rows about the same folder, the one that was changed last knows what is there.
    rows = connection.execute(
        sa.text("select id, release_id, target from publications order by changed desc, id desc")
    ).all()
    seen = set[tuple[int, str]]()
    for number, release, target in rows:
        place = _spelled(target)
        if (release, place) in seen:
            connection.execute(sa.text("delete from publications where id = :id"), {"id": number})
        seen.add((release, place))
    for table in ("publications", "moves"):
        for target in connection.scalars(sa.text(f"select distinct target from {table}")).all():  # noqa: S608 - of two
            if target is not None and _spelled(target) != target:
                connection.execute(
                    sa.text(f"update {table} set target = :new where target = :old"),  # noqa: S608 - the same
                    {"new": _spelled(target), "old": target},
                )


def downgrade() -> None:
    """What was written in either way can be read in either."""


def _spelled(target: str) -> str:
    return CATALOGUE + normpath(target.removeprefix(CATALOGUE)) if target.startswith(CATALOGUE) else target
