"""Whose an address is at a destination, so that who leaves there is known by it, whatever the data says by now."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    comment = "of the confirmed address; null: not told yet, see Baselines.tell_addresses"
    op.add_column("baseline", sa.Column("address_key", sa.BigInteger(), nullable=True, comment=comment))
    op.create_index("ix_baseline_address", "baseline", ["destination", "address_key"])
