"""The audit: a keyed chain of what happened to whom."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column(
            "number", sa.BigInteger(), nullable=False, autoincrement=False, comment="1, 2, 3: without gaps"
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False, comment="the run, webhook or command"),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("subjects", sa.LargeBinary(), nullable=False, comment="keys, eight bytes each"),
        sa.Column("detail", sa.Text(), nullable=False, comment="JSON, without personal data"),
        sa.Column("mac", sa.LargeBinary(32), nullable=False, comment="of this row and the one before"),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
