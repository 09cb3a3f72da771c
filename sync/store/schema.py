"""The tables of the store as one SQLAlchemy Core schema, the newest state of `migrations/versions`.

Nothing here runs a statement.

Decisions. Instants are integers, microseconds since 1970 in UTC, on both databases: they sort, they stream into Arrow
without a Python object each, and they mean the same in SQLite and PostgreSQL; `timestamptz` reads better in psql and
lost. Contacts appear under keyed hashes alone (`keys.py`); addresses and values stand in few columns, and in
clear only without an encryption key: `encryption.SEALED` lists them. Tables that are read whole are clustered by their key on SQLite (no rowid).
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

HEAD: Final = "0015"
"""The newest revision that this code knows."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(instant: datetime) -> int:
    """Give an aware instant as the integer that the store keeps."""
    return (instant - EPOCH) // _MICROSECOND


def instant_of(value: int) -> datetime:
    """Read `microseconds` back, as aware UTC."""
    return EPOCH + value * _MICROSECOND


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC instant, kept as microseconds since 1970. A naive one raises TypeError."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Write."""
        del dialect
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Read."""
        del dialect
        return None if value is None else instant_of(value)


# SQLite numbers rows by itself only where the type reads INTEGER.
_SERIAL: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

METADATA: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

fact = sa.Table(
    "fact",
    METADATA,
    sa.Column(
        "name", sa.Text, primary_key=True, comment="what about the store itself, e.g. contact_key_fingerprint"
    ),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

baseline = sa.Table(
    "baseline",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("contact_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("row_hash", sa.LargeBinary(16), nullable=False),
    sqlite_with_rowid=False,
)

baseline_payload = sa.Table(
    "baseline_payload",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("contact_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("payload", sa.LargeBinary, nullable=False, comment="zlib of ContactState.canonical()"),
)

remote = sa.Table(
    "remote",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("address_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False, comment="a ConsentState, as the ESP showed it last"),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("opted_in_at", Instant, comment="the time of opting in, as the ESP showed it last"),
    sa.Column("stated_at", Instant, comment="the time of opting in that came with our own write"),
    sa.Column("written_for", sa.BigInteger, comment="key of the contact that we wrote there last"),
    sa.Column("record_id", sa.Text, comment="the ESP's own id, of connectors that write by it"),
    sqlite_with_rowid=False,
)
RECORD_INDEX: Final = sa.Index(
    "ix_remote_record",
    remote.c.destination,
    remote.c.record_id,
    sqlite_where=remote.c.record_id.is_not(None),
    postgresql_where=remote.c.record_id.is_not(None),
)

owned = sa.Table(
    "owned",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True, comment="field or tag"),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("remote_id", sa.Text),
    sa.Column("made_at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

cursor = sa.Table(
    "cursor",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

consent_entry = sa.Table(
    "consent_entry",
    METADATA,
    sa.Column("id", _SERIAL, primary_key=True),
    sa.Column("entry_hash", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("subject_key", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject_kind", sa.Text, nullable=False, comment="contact or address"),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("act", sa.Text, nullable=False, comment="a ConsentAct"),
    sa.Column("occurred_at", Instant, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False, comment="JSON object of texts"),
    sa.Column("recorded_at", Instant, nullable=False),
    sa.Column("run_id", sa.Text),
)

consent_record = sa.Table(
    "consent_record",
    METADATA,
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("subject_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("granted_at", Instant),
    sa.Column("requested_at", Instant),
    sa.Column("withdrawn_at", Instant),
    sa.Column("suppressed_at", Instant),
    sa.Column("released_at", Instant),
    sa.Column("confirmed_at", Instant, comment="the latest grant whose evidence says that it was confirmed"),
    sa.Column("resident_at", Instant, comment="known to live where silence is no consent"),
    sa.Column(
        "grant_entry", sa.LargeBinary(16), comment="entry_hash of the grant that granted_at comes from"
    ),
    sqlite_with_rowid=False,
)

plan = sa.Table(
    "plan",
    METADATA,
    sa.Column("plan_id", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("status", sa.Text, nullable=False, comment="a PlanStatus"),
    sa.Column("snapshot_id", sa.Text, nullable=False),
    sa.Column("manifest", sa.Text, nullable=False, comment="JSON"),
    sa.Index("ix_plan_latest", "destination", "created_at"),
)

outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", _SERIAL, primary_key=True, comment="only grows; a row that comes again gets a new one"),
    sa.Column("plan_id", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("contact_key", sa.BigInteger, nullable=False),
    sa.Column("operation", sa.Text, nullable=False, comment="an Operation"),
    sa.Column(
        "step", sa.SmallInteger, nullable=False, comment="place of the operation in the order of sending"
    ),
    sa.Column("group_key", sa.Text, nullable=False, comment="the tag of an untag, else empty"),
    sa.Column("rank", sa.Integer, nullable=False, comment="wave: a lower one is sent before a higher one"),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("address_key", sa.BigInteger, nullable=False),
    sa.Column("payload", sa.Text, nullable=False, comment="JSON: fields, tags, previous_address"),
    sa.Column("before_hash", sa.LargeBinary(16), comment="row hash of the baseline that the plan saw"),
    sa.Column("desired_hash", sa.LargeBinary(16), comment="row hash of the state that the plan wants"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before", Instant, comment="null: does not wait"),
    sa.Column("job", sa.Text, comment="the ESP's name of the job that took it; null: none"),
    sqlite_autoincrement=True,
)

claim = sa.Table(
    "claim",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("group_key", sa.Text, primary_key=True),
    sa.Column("last_id", sa.BigInteger, nullable=False, comment="outbox rows up to this one are claimed"),
    sa.Column("token", sa.BigInteger, nullable=False, comment="fencing token of the lease that claimed them"),
    sqlite_with_rowid=False,
)

# The conditions of partial indexes, without parameters: such an index serves only a query that shows them in its text.
READY: Final = outbox.c.not_before.is_(None)
WAITING: Final = outbox.c.not_before.is_not(None)
TRIED: Final = outbox.c.attempts > sa.literal_column("0")
IN_JOB: Final = outbox.c.job.is_not(None)

for _name, _condition, _columns in (
    ("ix_outbox_ready", READY, ("destination", "rank", "step", "group_key", "id")),
    ("ix_outbox_waiting", WAITING, ("destination", "not_before", "rank")),
    ("ix_outbox_tried", TRIED, ("destination", "address_key")),
    ("ix_outbox_job", IN_JOB, ("destination", "job")),
):
    sa.Index(
        _name, *(outbox.c[name] for name in _columns), sqlite_where=_condition, postgresql_where=_condition
    )

rejection = sa.Table(
    "rejection",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("contact_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("operation", sa.Text, primary_key=True),
    sa.Column("payload_hash", sa.LargeBinary(16), comment="row hash of the state that was refused"),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("first_at", Instant, nullable=False),
    sa.Column("last_at", Instant, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
)

run = sa.Table(
    "run",
    METADATA,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("status", sa.Text, nullable=False, comment="a RunStatus"),
    sa.Column("exit_code", sa.Integer),
    sa.Column("report", sa.Text, nullable=False, comment="JSON"),
    sa.Index("ix_run_latest", "destination", "started_at"),
)

lease = sa.Table(
    "lease",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False, comment="empty: nobody"),
    sa.Column("token", sa.BigInteger, nullable=False, comment="grows with each holder: fencing"),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("heartbeat", Instant, nullable=False),
    sqlite_with_rowid=False,
)

account_turns = sa.Table(
    "account_turns",
    METADATA,
    sa.Column("account", sa.Text, primary_key=True, comment="Transport.account"),
    sa.Column("state", sa.Text, nullable=False, comment="connectors.turns.Turns as JSON"),
    sqlite_with_rowid=False,
)

inbox = sa.Table(
    "inbox",
    METADATA,
    sa.Column("id", _SERIAL, primary_key=True),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("name_hash", sa.LargeBinary(16), nullable=False, comment="tells a message from all others"),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False, comment="as it came; empty once done"),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("status", sa.Text, nullable=False, comment="waiting, hint, done or dead"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("not_before", Instant, comment="null: does not wait for a time"),
    sa.Column("problem", sa.Text, comment="why the last try failed"),
    sa.UniqueConstraint("destination", "name_hash"),
    sa.Index("ix_inbox_status", "destination", "status", "id"),
    sqlite_autoincrement=True,
)

pause = sa.Table(
    "pause",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("opt_outs", sa.Boolean, nullable=False, comment="true: these are held back as well"),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("since", Instant, nullable=False),
    sqlite_with_rowid=False,
)

audit = sa.Table(
    "audit",
    METADATA,
    sa.Column(
        "number", sa.BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3: without gaps"
    ),
    sa.Column("at", Instant, nullable=False),
    sa.Column("act", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False, comment="the run, webhook or command"),
    sa.Column("destination", sa.Text),
    sa.Column("subjects", sa.LargeBinary, nullable=False, comment="keys, eight bytes each"),
    sa.Column("detail", sa.Text, nullable=False, comment="JSON, without personal data"),
    sa.Column("mac", sa.LargeBinary(32), nullable=False, comment="of this row and the one before"),
)

tombstone = sa.Table(
    "tombstone",
    METADATA,
    sa.Column("key_version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "subject_key", sa.BigInteger, primary_key=True, autoincrement=False, comment="under the tombstone key"
    ),
    sa.Column("erased_at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

erasure = sa.Table(
    "erasure",
    METADATA,
    sa.Column("erasure_id", sa.Text, primary_key=True),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("finished_at", Instant, comment="null: a step is still to be done"),
    sa.Column(
        "subject",
        sa.LargeBinary,
        nullable=False,
        comment="JSON: ids and addresses; sealed; empty once finished",
    ),
    sa.Column("receipt", sa.Text, nullable=False, comment="JSON, without personal data"),
)

pulled_value = sa.Table(
    "pulled_value",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("address_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column(
        "value", sa.LargeBinary, nullable=False, comment="JSON: theirs, and ours that it replaced; sealed"
    ),
    sa.Column("changed_at", Instant, nullable=False, comment="when it was first seen so"),
    sqlite_with_rowid=False,
)

remote_identity = sa.Table(
    "remote_identity",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column(
        "name_key",
        sa.BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="of the destination's own name for a contact",
    ),
    sa.Column("address_key", sa.BigInteger, nullable=False, comment="where the contact was seen last"),
    sqlite_with_rowid=False,
)

engagement = sa.Table(
    "engagement",
    METADATA,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("address_key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, primary_key=True, comment="open or click"),
    sa.Column("occurred_at", Instant, primary_key=True),
    sa.Column("campaign", sa.Text, primary_key=True),
    sqlite_with_rowid=False,
)

token = sa.Table(
    "token",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False, comment="admin or marketer"),
    sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sqlite_with_rowid=False,
)
