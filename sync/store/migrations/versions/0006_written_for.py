"""Who was written at an address last, so that who leaves there is known, whatever the data says by then."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    comment = "key of the contact that we wrote there last"
    op.add_column("remote", sa.Column("written_for", sa.BigInteger(), nullable=True, comment=comment))
