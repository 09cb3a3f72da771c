"""Who was erased, and the receipts of that."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "tombstone",
        sa.Column("subject_hash", sa.LargeBinary(16), nullable=False, comment="under the tombstone key"),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject_hash", name="pk_tombstone"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "erasure",
        sa.Column("erasure_id", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True, comment="null: a step is still to be done"),
        sa.Column("receipt", sa.Text(), nullable=False, comment="JSON, without personal data"),
        sa.PrimaryKeyConstraint("erasure_id", name="pk_erasure"),
    )
