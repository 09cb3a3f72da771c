"""The first schema: baselines, remote contacts, consent ledger, plans, outbox, rejections, runs, leases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_LEDGER_STAYS = {
    "sqlite": """
        create trigger consent_entry_stays_{when} before {when} on consent_entry
        begin select raise(abort, 'the consent ledger only grows'); end
    """,
    "postgresql": """
        create trigger consent_entry_stays_{when} before {when} on consent_entry
        for each statement execute function consent_entry_stays()
    """,
}


def upgrade() -> None:
    op.create_table(
        "baseline",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("contact_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("row_hash", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("destination", "contact_key", name="pk_baseline"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "baseline_payload",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("contact_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="zlib of ContactState.canonical()"),
        sa.PrimaryKeyConstraint("destination", "contact_key", name="pk_baseline_payload"),
    )
    op.create_table(
        "consent_entry",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("entry_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False, comment="contact or address"),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False, comment="a ConsentAct"),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False, comment="JSON object of texts"),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_consent_entry"),
        sa.UniqueConstraint("entry_hash", name="uq_consent_entry_entry_hash"),
    )
    op.create_index("ix_consent_entry_subject_key", "consent_entry", ["subject_key"], unique=False)
    op.create_table(
        "consent_record",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=True),
        sa.Column("requested_at", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.Column("suppressed_at", sa.BigInteger(), nullable=True),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "grant_entry",
            sa.LargeBinary(length=16),
            nullable=True,
            comment="entry_hash of the grant that granted_at comes from",
        ),
        sa.PrimaryKeyConstraint("channel", "purpose", "subject_key", name="pk_consent_record"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cursor",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "name", name="pk_cursor"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fact",
        sa.Column(
            "name",
            sa.Text(),
            nullable=False,
            comment="what about the store itself, e.g. contact_key_fingerprint",
        ),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_fact"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lease",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False, comment="empty: nobody"),
        sa.Column("token", sa.BigInteger(), nullable=False, comment="grows with each holder: fencing"),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name="pk_lease"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("contact_key", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False, comment="an Operation"),
        sa.Column(
            "step",
            sa.SmallInteger(),
            nullable=False,
            comment="place of the operation in the order of sending",
        ),
        sa.Column("group_key", sa.Text(), nullable=False, comment="the tag of an untag, else empty"),
        sa.Column(
            "rank", sa.Integer(), nullable=False, comment="wave: a lower one is sent before a higher one"
        ),
        sa.Column("address", sa.Text(), nullable=True, comment="null once done"),
        sa.Column("address_key", sa.BigInteger(), nullable=False),
        sa.Column(
            "payload",
            sa.Text(),
            nullable=True,
            comment="JSON: fields, tags, previous_address; null once done",
        ),
        sa.Column(
            "before_hash",
            sa.LargeBinary(length=16),
            nullable=True,
            comment="row hash of the baseline that the plan saw",
        ),
        sa.Column(
            "desired_hash",
            sa.LargeBinary(length=16),
            nullable=True,
            comment="row hash of the state that the plan wants",
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="pending, claimed or done"),
        sa.Column(
            "claim_token",
            sa.BigInteger(),
            nullable=True,
            comment="fencing token of the lease that claimed it",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True, comment="null: may be claimed now"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True, comment="an OutcomeStatus, once done"),
        sa.Column("code", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("plan_id", "contact_key", "operation", "group_key", name="uq_outbox_item"),
    )
    op.create_index(
        "ix_outbox_claimed",
        "outbox",
        ["destination"],
        unique=False,
        sqlite_where=sa.text("status = 'claimed'"),
        postgresql_where=sa.text("status = 'claimed'"),
    )
    op.create_index(
        "ix_outbox_ready",
        "outbox",
        ["destination", "rank", "step", "group_key", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending' AND not_before IS NULL"),
        postgresql_where=sa.text("status = 'pending' AND not_before IS NULL"),
    )
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["destination", "not_before"],
        unique=False,
        sqlite_where=sa.text("status = 'pending' AND not_before IS NOT NULL"),
        postgresql_where=sa.text("status = 'pending' AND not_before IS NOT NULL"),
    )
    op.create_table(
        "owned",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="field or tag"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "kind", "name", name="pk_owned"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "plan",
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="a PlanStatus"),
        sa.Column("snapshot_id", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("plan_id", name="pk_plan"),
    )
    op.create_index("ix_plan_latest", "plan", ["destination", "created_at"], unique=False)
    op.create_table(
        "rejection",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("contact_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column(
            "payload_hash",
            sa.LargeBinary(length=16),
            nullable=True,
            comment="row hash of the state that was refused",
        ),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "contact_key", "operation", name="pk_rejection"),
    )
    op.create_table(
        "remote",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("address_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="a ConsentState, as the ESP showed it last"),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "address_key", name="pk_remote"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False, comment="a RunStatus"),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("run_id", name="pk_run"),
    )
    op.create_index("ix_run_latest", "run", ["destination", "started_at"], unique=False)

    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute(
            "create function consent_entry_stays() returns trigger language plpgsql as "
            "$$ begin raise exception 'the consent ledger only grows'; end $$"
        )
    for when in ("update", "delete") + (("truncate",) if dialect == "postgresql" else ()):
        op.execute(_LEDGER_STAYS[dialect].format(when=when))
