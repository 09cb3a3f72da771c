"""The inbox of webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=True
        ),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("name_hash", sa.LargeBinary(16), nullable=False, comment="tells a message from all others"),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="as it came; empty once done"),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="waiting, hint, done or dead"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True, comment="null: does not wait for a time"),
        sa.Column("problem", sa.Text(), nullable=True, comment="why the last try failed"),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
        sa.UniqueConstraint("destination", "name_hash", name="uq_inbox_destination"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inbox_status", "inbox", ["destination", "status", "id"])
