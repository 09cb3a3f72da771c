"""What the law of a country asks for, who was erased, and the receipts of that."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


# Grants that an older store took in say themselves whether they were confirmed: by a date, as `core.consent.record` asks.
_CONFIRMED = """
update consent_record set confirmed_at = (
    select max(entry.occurred_at) from consent_entry as entry
    where entry.subject_key = consent_record.subject_key and entry.channel = consent_record.channel
      and entry.purpose = consent_record.purpose and entry.act = 'grant'
      and {confirmed}
)
where subject_key in (
    select subject_key from consent_entry where act = 'grant' and evidence like '%"confirmed_at"%'
)
"""
_IS_CONFIRMED = {
    "sqlite": """(' ' || (entry.evidence ->> 'confirmed_at') glob '*[^0-9]199[0-9]*'
        or ' ' || (entry.evidence ->> 'confirmed_at') glob '*[^0-9]20[0-9][0-9]*')""",
    "postgresql": "entry.evidence::json ->> 'confirmed_at' ~ '(^|[^0-9])(199[0-9]|20[0-9][0-9])'",
}


def upgrade() -> None:
    for name, comment in (
        ("confirmed_at", "the latest grant whose evidence says that it was confirmed"),
        ("resident_at", "known to live where silence is no consent"),
    ):
        op.add_column("consent_record", sa.Column(name, sa.BigInteger(), nullable=True, comment=comment))
    op.execute(_CONFIRMED.format(confirmed=_IS_CONFIRMED[op.get_context().dialect.name]))
    op.create_table(
        "tombstone",
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), nullable=False, comment="under the tombstone key"),
        sa.Column("erased_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_version", "subject_key", name="pk_tombstone"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "erasure",
        sa.Column("erasure_id", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True, comment="null: a step is still to be done"),
        sa.Column(
            "subject",
            sa.LargeBinary(),
            nullable=False,
            comment="JSON: ids and addresses; sealed; empty once finished",
        ),
        sa.Column("receipt", sa.Text(), nullable=False, comment="JSON, without personal data"),
        sa.PrimaryKeyConstraint("erasure_id", name="pk_erasure"),
    )
