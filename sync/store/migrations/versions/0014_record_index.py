"""Find a contact by the ESP's own id: some ESPs' webhooks name nothing else."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    there = sa.text("record_id IS NOT NULL")
    op.create_index(
        "ix_remote_record",
        "remote",
        ["destination", "record_id"],
        sqlite_where=there,
        postgresql_where=there,
    )
