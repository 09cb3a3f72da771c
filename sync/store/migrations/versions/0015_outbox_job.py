"""The ESP's name of the job that took a change: asked again after a kill, instead of sending the change twice."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    comment = "the ESP's name of the job that took it; null: none"
    op.add_column("outbox", sa.Column("job", sa.Text(), nullable=True, comment=comment))
    there = sa.text("job IS NOT NULL")
    op.create_index(
        "ix_outbox_job", "outbox", ["destination", "job"], sqlite_where=there, postgresql_where=there
    )
