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
FAILED = text("status = 'error' OR fingerprint IS NOT NULL")
UNPACKED = text("unpacked = 1 AND end_time IS NOT NULL")
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
    Column("unpacked", Integer, nullable=False, server_default="0"),  # 1 when it has spans that no pack holds
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
    Index("ix_rollout_unpacked", "end_time", sqlite_where=UNPACKED, postgresql_where=UNPACKED),
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
    Index("ix_span_failed", "start_ns", sqlite_where=FAILED, postgresql_where=FAILED),
)

# One row per span, apart from it: lists and scans never read these pages. `id` is the span's. Only spans that no pack holds.
span_payload = Table(
    "span_payload",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=False),
    Column("encoding", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

# The payloads of an ended rollout in zstd frames; `part` counts from 0. See `pack.py`.
pack = Table(
    "pack",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("rollout_id", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("spans", Integer, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    Column("packed_bytes", BigInteger, nullable=False),
    Column("create_time", Real, nullable=False),
    # Which rules its texts were indexed by; 0: not indexed yet.
    Column("texts_by", Integer, nullable=False, server_default="0"),
    Column("url", Text),  # where the frame lies when it is not in this row
    Column("directory", LargeBinary, nullable=False),
    Column("frame", LargeBinary),
    UniqueConstraint("rollout_id", "part"),
    Index("ix_pack_texts_by", "texts_by"),
)

# Objects in a bucket that no pack points at: being written since `time`, or (time 0) to be removed. See `pack.py`.
pack_object = Table(
    "pack_object",
    metadata,
    Column("url", Text, primary_key=True),
    Column("time", Real, nullable=False),
)

# Each distinct text once per project: `hash` is of both. Its words are in `message_index` (FTS5 or tsvector), under the same number.
message = Table(
    "message",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("hash"),
)

# Which spans say it: of each rollout the first for every combination of what a search can be narrowed to.
message_hit = Table(
    "message_hit",
    metadata,
    Column("message_id", BigInteger, nullable=False),
    Column("span_row", BigInteger, nullable=False),  # span.id
    PrimaryKeyConstraint("message_id", "span_row"),
    Index("ix_message_hit_span_row", "span_row"),
    sqlite_with_rowid=False,
)

# What spans add up to per hour (grain 3600) and day (86400); `time` is where it begins, unix seconds, 0 for spans without a start.
# "" stands for none in the dimensions. Kept in the transaction that stores or deletes the spans: see `rollups.py`.
rollup = Table(
    "rollup",
    metadata,
    Column("project", Text, nullable=False),
    Column("grain", Integer, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("agent", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("spans", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),  # 1e-9 USD: integers add up exactly, in any order
    Column("priced", BigInteger, nullable=False),  # spans whose cost is known
    Column("timed", BigInteger, nullable=False),  # spans with both times
    Column("duration_ns", BigInteger, nullable=False),
    Column("latency", LargeBinary, nullable=False),  # sketch of the durations
    PrimaryKeyConstraint("project", "grain", "time", "agent", "provider", "model", "tool", "kind", "status"),
    sqlite_with_rowid=False,
)

# How long rollouts of a project and mode are kept; mode "" is every mode without a row of its own.
retention = Table(
    "retention",
    metadata,
    Column("project", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("max_age_s", Real),
    Column("max_rollouts", BigInteger),
    Column("max_bytes", BigInteger),
    PrimaryKeyConstraint("project", "mode"),
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
    Column("limits", Text),  # JSON of what is limited; null: nothing
    UniqueConstraint("hash"),
)

# A project's own prices; `rates` is JSON, USD per million tokens. `pattern` is a model, "provider/model" or a glob of either.
price_override = Table(
    "price_override",
    metadata,
    Column("project", Text, nullable=False),
    Column("pattern", Text, nullable=False),
    Column("rates", Text, nullable=False),
    Column("create_time", Real, nullable=False),
    PrimaryKeyConstraint("project", "pattern"),
)

# What calls through the gateway add up to per day (since 1970, UTC) and who made them; "" stands for none. See `spend.py`.
spend = Table(
    "spend",
    metadata,
    Column("project", Text, nullable=False),
    Column("day", Integer, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),  # the buckets do not overlap: see `ingest/usage.py`
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cache_write_1h_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("audio_input_tokens", BigInteger, nullable=False),
    Column("audio_output_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),  # 1e-9 USD
    Column("priced", BigInteger, nullable=False),  # calls whose cost is known
    PrimaryKeyConstraint("project", "day", "key_id", "agent", "operation", "provider", "model"),
    sqlite_with_rowid=False,
)

# Calls that the gateway saw, by the id of their answer: an SDK may report the same. See `model_calls.py`.
model_call = Table(
    "model_call",
    metadata,
    Column("rollout_id", Text, nullable=False),
    Column("response_id", Text, nullable=False),
    Column("end_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("rollout_id", "response_id"),
    sqlite_with_rowid=False,
)

# The same per rollout, for budgets that survive restarts and hold across replicas.
spend_rollout = Table(
    "spend_rollout",
    metadata,
    Column("rollout_id", Text, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    PrimaryKeyConstraint("rollout_id"),
    sqlite_with_rowid=False,
)
