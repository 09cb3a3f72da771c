"""The opt-in times that were seen and those that we stated, so that each is one word of one person."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name, comment in (
        ("opted_in_at", "the time of opting in, as the ESP showed it last"),
        ("stated_at", "the time of opting in that came with our own write"),
    ):
        op.add_column("remote", sa.Column(name, sa.BigInteger(), nullable=True, comment=comment))
