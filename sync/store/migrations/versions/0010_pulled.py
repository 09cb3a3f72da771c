"""What was pulled of fields that others write, of who is who at a destination, and of opens and clicks."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "pulled_value",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("address_key", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column(
            "value",
            sa.LargeBinary(),
            nullable=False,
            comment="JSON: theirs, and ours that it replaced; sealed",
        ),
        sa.Column("changed_at", sa.BigInteger(), nullable=False, comment="when it was first seen so"),
        sa.PrimaryKeyConstraint("destination", "address_key", "tag", name="pk_pulled_value"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "remote_identity",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column(
            "name_key",
            sa.BigInteger(),
            nullable=False,
            autoincrement=False,
            comment="of the destination's own name for a contact",
        ),
        sa.Column("address_key", sa.BigInteger(), nullable=False, comment="where the contact was seen last"),
        sa.PrimaryKeyConstraint("destination", "name_key", name="pk_remote_identity"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "engagement",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("address_key", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="open or click"),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "destination", "address_key", "kind", "occurred_at", "campaign", name="pk_engagement"
        ),
        sqlite_with_rowid=False,
    )
