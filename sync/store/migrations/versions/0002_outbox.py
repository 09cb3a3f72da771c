"""The outbox holds only what is still to be sent, and claims are stretches of it.

What was done is dropped; what was claimed comes again, one attempt older, as after any run that was killed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_KEPT = (
    "plan_id, destination, contact_key, operation, step, group_key, rank, address, address_key, payload, "
    "before_hash, desired_hash, attempts, not_before"
)
_ATTEMPTS = "attempts + (case status when 'claimed' then 1 else 0 end) as attempts"


def upgrade() -> None:
    op.execute(
        f"create temporary table kept as select id, {_KEPT.replace('attempts', _ATTEMPTS)} from outbox "
        "where status <> 'done'"
    )
    op.drop_table("outbox")
    op.create_table(
        "outbox",
        sa.Column("id", _SERIAL, nullable=False, comment="only grows; a row that comes again gets a new one"),
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
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("address_key", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False, comment="JSON: fields, tags, previous_address"),
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
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True, comment="null: does not wait"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
    op.execute(f"insert into outbox ({_KEPT}) select {_KEPT} from kept order by id")
    op.execute("drop table kept")
    op.create_index(
        "ix_outbox_ready",
        "outbox",
        ["destination", "rank", "step", "group_key", "id"],
        unique=False,
        sqlite_where=sa.text("not_before IS NULL"),
        postgresql_where=sa.text("not_before IS NULL"),
    )
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["destination", "not_before", "rank"],
        unique=False,
        sqlite_where=sa.text("not_before IS NOT NULL"),
        postgresql_where=sa.text("not_before IS NOT NULL"),
    )
    op.create_table(
        "claim",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("group_key", sa.Text(), nullable=False),
        sa.Column(
            "last_id", sa.BigInteger(), nullable=False, comment="outbox rows up to this one are claimed"
        ),
        sa.Column(
            "token",
            sa.BigInteger(),
            nullable=False,
            comment="fencing token of the lease that claimed them",
        ),
        sa.PrimaryKeyConstraint("destination", "rank", "step", "group_key", name="pk_claim"),
        sqlite_with_rowid=False,
    )
