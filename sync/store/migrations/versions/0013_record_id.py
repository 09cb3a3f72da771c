"""The ESP's own id of a contact, for connectors that write by it and not by address."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    comment = "the ESP's own id, of connectors that write by it"
    op.add_column("remote", sa.Column("record_id", sa.Text(), nullable=True, comment=comment))
