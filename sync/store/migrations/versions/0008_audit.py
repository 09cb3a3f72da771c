"""The audit: a keyed chain of what happened to whom. And the ledger's evidence may be encrypted, which changes no word."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# Of the ledger all but the evidence still only grows.
_KEPT = "id, entry_hash, subject_key, subject_kind, channel, purpose, act, occurred_at, source, recorded_at, run_id"
_LEDGER_STAYS = {
    "sqlite": f"""
        create trigger consent_entry_stays_update before update of {_KEPT} on consent_entry
        begin select raise(abort, 'the consent ledger only grows'); end
    """,
    "postgresql": f"""
        create trigger consent_entry_stays_update before update of {_KEPT} on consent_entry
        for each statement execute function consent_entry_stays()
    """,
}


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column(
            "number", sa.BigInteger(), nullable=False, autoincrement=False, comment="1, 2, 3: without gaps"
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False, comment="the run, webhook or command"),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("subjects", sa.LargeBinary(), nullable=False, comment="keys, eight bytes each"),
        sa.Column("detail", sa.Text(), nullable=False, comment="JSON, without personal data"),
        sa.Column("mac", sa.LargeBinary(32), nullable=False, comment="of this row and the one before"),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
    op.execute(
        "insert into fact (name, value) values ('audit_head', 'none yet')"
    )  # signed when the store is opened
    dialect = op.get_context().dialect.name
    on = " on consent_entry" if dialect == "postgresql" else ""
    op.execute(f"drop trigger consent_entry_stays_update{on}")
    op.execute(_LEDGER_STAYS[dialect])
