"""Turns of accounts, shared by processes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "account_turns",
        sa.Column("account", sa.Text(), nullable=False, comment="Transport.account"),
        sa.Column("state", sa.Text(), nullable=False, comment="connectors.turns.Turns as JSON"),
        sa.PrimaryKeyConstraint("account", name="pk_account_turns"),
        sqlite_with_rowid=False,
    )
