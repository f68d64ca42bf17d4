"""The tables, declared once. `migrations/` builds them; a test compares the two on every database.

Rules: JSON is opaque TEXT, what is filtered on is a column; times of rollouts and attempts are doubles in unix seconds,
times of spans are BIGINT unix nanoseconds; no column is an enum of the database.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Real: Double[float] = Double()

# SQLite makes a rowid alias only of the exact word INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")

QUEUED = text("status IN ('queuing', 'requeuing')")
WATCHED = text("deadline IS NOT NULL")
KEYED = text("idempotency_key IS NOT NULL")

project = Table(
    "project",
    metadata,
    Column("name", Text, primary_key=True),
    Column("create_time", Real, nullable=False),
)

rollout = Table(
    "rollout",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),
    Column("rollout_id", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("mode", Text),
    Column("input", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("metadata", Text),
    Column("resources_id", Text),
    Column("start_time", Real, nullable=False),
    Column("end_time", Real),
    Column("failure_reason", Text),
    Column("idempotency_key", Text),
    Column("source", Text),  # set when nobody named the rollout: "otlp" or the format it was imported from
    Column("agent", Text),
    Column(
        "queue_pos", BigInteger
    ),  # place in the queue; kept after a claim so that RETURNING can be put in order
    Column("timeout_seconds", Real),
    Column("unresponsive_seconds", Real),
    Column(
        "deadline", Double
    ),  # never later than the moment the watchdog has to look; it may find life and move it on
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempt_id", Text),  # the latest attempt
    Column("span_seq", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("rollout_id"),
    Index("ix_rollout_queue", "project", "queue_pos", sqlite_where=QUEUED, postgresql_where=QUEUED),
    Index("ix_rollout_deadline", "deadline", sqlite_where=WATCHED, postgresql_where=WATCHED),
    Index(
        "ix_rollout_key",
        "project",
        "idempotency_key",
        unique=True,
        sqlite_where=KEYED,
        postgresql_where=KEYED,
    ),
    Index("ix_rollout_start", "project", "start_time"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("rollout_id", Text, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("sequence_id", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("start_time", Real, nullable=False),
    Column("end_time", Real),
    Column("worker_id", Text),
    Column("last_heartbeat_time", Real),
    Column("metadata", Text),
    Column("failure_reason", Text),
    Column("lease_until", Real),
    PrimaryKeyConstraint("rollout_id", "attempt_id"),
    sqlite_with_rowid=False,  # small rows found by their key alone: one tree to write instead of two
)

span = Table(
    "span",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),
    Column("project", Text, nullable=False),
    Column("rollout_id", Text, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("sequence_id", BigInteger, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("span_id", Text, nullable=False),
    Column("parent_id", Text),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("start_ns", BigInteger),
    Column("end_ns", BigInteger),
    Column("agent", Text),
    Column("tool", Text),
    Column("provider", Text),
    Column("model", Text),
    Column("session", Text),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("fingerprint", Text),
    Column("call_hash", Text),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_usd", Real),
    Column("ttft_ms", Real),
    Column("input_preview", Text),
    Column("output_preview", Text),
    Column("dialect", Text),
    Column("derived_by", Integer, nullable=False),
    UniqueConstraint("rollout_id", "attempt_id", "span_id"),
    Index("ix_span_order", "rollout_id", "attempt_id", "sequence_id"),
    Index("ix_span_start", "start_ns"),
)

# One row per span, apart from it: lists and scans never read these pages. `id` is the span's.
span_payload = Table(
    "span_payload",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),
    Column("encoding", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

score = Table(
    "score",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("rollout_id", Text, nullable=False),
    Column("attempt_id", Text),
    Column("span_id", Text),
    Column("name", Text, nullable=False),
    Column("value", Real, nullable=False),
    Column(
        "is_primary", Integer, nullable=False
    ),  # the first dimension of a reward: what `reward` of a rollout means
    Column("source", Text, nullable=False),
    Column("time", Real, nullable=False),
    Index("ix_score_rollout_id", "rollout_id"),
)

# Every version stays: an update under the same id adds a row.
resources = Table(
    "resources",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("resources_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("create_time", Real, nullable=False),
    Column("update_time", Real, nullable=False),
    Column("content", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("is_latest", Integer, nullable=False),
    UniqueConstraint("project", "resources_id", "version"),
    Index("ix_resources_update", "project", "update_time"),
)

worker = Table(
    "worker",
    metadata,
    Column("seq", RowId, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("heartbeat_stats", Text),
    Column("last_heartbeat_time", Real),
    Column("last_dequeue_time", Real),
    Column("last_busy_time", Real),
    Column("last_idle_time", Real),
    Column("current_rollout_id", Text),
    Column("current_attempt_id", Text),
    UniqueConstraint("project", "worker_id"),
)

finding = Table(
    "finding",
    metadata,
    Column("project", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("recommendation", Text, nullable=False),
    Column("occurrences", BigInteger, nullable=False),
    Column("runs", BigInteger, nullable=False),
    Column("failed_runs", BigInteger, nullable=False),
    Column("time_s", Real, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_usd", Real),
    Column("agent", Text),
    Column("tool", Text),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("first_seen", Real),
    Column("last_seen", Real),
    PrimaryKeyConstraint("project", "fingerprint"),
)

finding_evidence = Table(
    "finding_evidence",
    metadata,
    Column("project", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("rollout_id", Text, nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("span_id", Text, nullable=False),
    PrimaryKeyConstraint("project", "fingerprint", "position"),
    Index("ix_finding_evidence_rollout_id", "rollout_id"),
)

key = Table(
    "key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("create_time", Real, nullable=False),
    Column("revoke_time", Real),
    UniqueConstraint("hash"),
)
