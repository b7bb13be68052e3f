"""How releases live and are retired: channels, stages, approvals, and the history of all of it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("releases") as table:
        table.add_column(sa.Column("channel", sa.String(63), nullable=False, server_default="stable"))
        table.add_column(sa.Column("held", sa.String(16), nullable=True))
        table.add_column(sa.Column("held_reason", sa.Text(), nullable=True))
    with op.batch_alter_table("publications") as table:
        table.add_column(sa.Column("stage", sa.String(16), nullable=False, server_default="active"))
        table.add_column(sa.Column("since", sa.DateTime(), nullable=True))
        table.add_column(sa.Column("settled", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.execute("update publications set since = changed")
    with op.batch_alter_table("publications") as table:
        table.alter_column("since", existing_type=sa.DateTime(), nullable=False)
    op.create_table(
        "approvals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(255), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_approvals_release_id_releases")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        sa.UniqueConstraint("release_id", "account", name=op.f("uq_approvals_release_id")),
    )
    op.create_table(
        "moves",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("account", sa.String(255), nullable=False),
        sa.Column("verb", sa.String(32), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("before", sa.String(63), nullable=True),
        sa.Column("after", sa.String(63), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
    )
    op.create_index(op.f("ix_moves_name"), "moves", ["name"])


def downgrade() -> None:
    op.drop_table("moves")
    op.drop_table("approvals")
    with op.batch_alter_table("publications") as table:
        table.drop_column("settled")
        table.drop_column("since")
        table.drop_column("stage")
    with op.batch_alter_table("releases") as table:
        table.drop_column("held_reason")
        table.drop_column("held")
        table.drop_column("channel")
