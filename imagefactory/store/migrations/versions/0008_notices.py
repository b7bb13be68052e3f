"""Which run of a schedule a job is, whether people were told of its end, and notices that wait to be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("scheduled", sa.DateTime(), nullable=True))
        jobs.add_column(sa.Column("told", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(36), nullable=False),
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("due", sa.DateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sent", sa.DateTime(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sa.UniqueConstraint("event", "receiver", name=op.f("uq_notices_event")),
    )
    op.create_index(op.f("ix_notices_due"), "notices", ["due"])


def downgrade() -> None:
    op.drop_table("notices")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("told")
        jobs.drop_column("scheduled")
