"""The opt-in time that we stated ourselves, so that it is not taken for a person's later word."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    comment = "the opt-in time that we stated when we made the contact"
    op.add_column("remote", sa.Column("stated_at", sa.BigInteger(), nullable=True, comment=comment))
