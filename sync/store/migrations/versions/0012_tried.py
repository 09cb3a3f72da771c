"""Rows of the outbox that may have happened are found without reading the others."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    tried = sa.text("attempts > 0")
    op.create_index(
        "ix_outbox_tried",
        "outbox",
        ["destination", "address_key"],
        sqlite_where=tried,
        postgresql_where=tried,
    )
