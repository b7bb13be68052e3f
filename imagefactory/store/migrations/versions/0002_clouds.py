"""Publications in clouds."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("publications") as table:
        table.add_column(sa.Column("image_id", sa.String(36), nullable=True))
        table.add_column(sa.Column("details", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    with op.batch_alter_table("publications") as table:
        table.drop_column("details")
        table.drop_column("image_id")
