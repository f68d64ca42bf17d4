"""The first schema.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SECONDS: sa.Double[float] = sa.Double()
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "attempt",
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("sequence_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_time", SECONDS, nullable=False),
        sa.Column("end_time", SECONDS, nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("last_heartbeat_time", SECONDS, nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("lease_until", SECONDS, nullable=True),
        sa.PrimaryKeyConstraint("rollout_id", "attempt_id", name="pk_attempt"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "finding",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("recommendation", sa.Text(), nullable=False),
        sa.Column("occurrences", sa.BigInteger(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("failed_runs", sa.BigInteger(), nullable=False),
        sa.Column("time_s", SECONDS, nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", SECONDS, nullable=True),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("tool", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("first_seen", SECONDS, nullable=True),
        sa.Column("last_seen", SECONDS, nullable=True),
        sa.PrimaryKeyConstraint("project", "fingerprint", name="pk_finding"),
    )
    op.create_table(
        "finding_evidence",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "fingerprint", "position", name="pk_finding_evidence"),
    )
    op.create_index("ix_finding_evidence_rollout_id", "finding_evidence", ["rollout_id"], unique=False)
    op.create_table(
        "key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("create_time", SECONDS, nullable=False),
        sa.Column("revoke_time", SECONDS, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_key"),
        sa.UniqueConstraint("hash", name="uq_key_hash"),
    )
    op.create_table(
        "project",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("create_time", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_project"),
    )
    op.create_table(
        "resources",
        sa.Column("seq", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("resources_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time", SECONDS, nullable=False),
        sa.Column("update_time", SECONDS, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("is_latest", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_resources"),
        sa.UniqueConstraint(
            "project", "resources_id", "version", name="uq_resources_project_resources_id_version"
        ),
    )
    op.create_index("ix_resources_update", "resources", ["project", "update_time"], unique=False)
    op.create_table(
        "rollout",
        sa.Column("seq", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=True),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("resources_id", sa.Text(), nullable=True),
        sa.Column("start_time", SECONDS, nullable=False),
        sa.Column("end_time", SECONDS, nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("queue_pos", sa.BigInteger(), nullable=True),
        sa.Column("timeout_seconds", SECONDS, nullable=True),
        sa.Column("unresponsive_seconds", SECONDS, nullable=True),
        sa.Column("deadline", SECONDS, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("span_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_rollout"),
        sa.UniqueConstraint("rollout_id", name="uq_rollout_rollout_id"),
    )
    op.create_index(
        "ix_rollout_deadline",
        "rollout",
        ["deadline"],
        unique=False,
        sqlite_where=sa.text("deadline IS NOT NULL"),
        postgresql_where=sa.text("deadline IS NOT NULL"),
    )
    op.create_index(
        "ix_rollout_key",
        "rollout",
        ["project", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index(
        "ix_rollout_queue",
        "rollout",
        ["project", "queue_pos"],
        unique=False,
        sqlite_where=sa.text("status IN ('queuing', 'requeuing')"),
        postgresql_where=sa.text("status IN ('queuing', 'requeuing')"),
    )
    op.create_index("ix_rollout_start", "rollout", ["project", "start_time"], unique=False)
    op.create_table(
        "score",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("span_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", SECONDS, nullable=False),
        sa.Column("is_primary", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("time", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_score"),
    )
    op.create_index("ix_score_rollout_id", "score", ["rollout_id"], unique=False)
    op.create_table(
        "span",
        sa.Column("id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("sequence_id", sa.BigInteger(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=True),
        sa.Column("end_ns", sa.BigInteger(), nullable=True),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("tool", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("call_hash", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_usd", SECONDS, nullable=True),
        sa.Column("ttft_ms", SECONDS, nullable=True),
        sa.Column("input_preview", sa.Text(), nullable=True),
        sa.Column("output_preview", sa.Text(), nullable=True),
        sa.Column("dialect", sa.Text(), nullable=True),
        sa.Column("derived_by", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_span"),
        sa.UniqueConstraint(
            "rollout_id", "attempt_id", "span_id", name="uq_span_rollout_id_attempt_id_span_id"
        ),
    )
    op.create_index("ix_span_order", "span", ["rollout_id", "attempt_id", "sequence_id"], unique=False)
    op.create_index("ix_span_start", "span", ["start_ns"], unique=False)
    op.create_table(
        "span_payload",
        sa.Column("id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_span_payload"),
    )
    op.create_table(
        "worker",
        sa.Column("seq", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("heartbeat_stats", sa.Text(), nullable=True),
        sa.Column("last_heartbeat_time", SECONDS, nullable=True),
        sa.Column("last_dequeue_time", SECONDS, nullable=True),
        sa.Column("last_busy_time", SECONDS, nullable=True),
        sa.Column("last_idle_time", SECONDS, nullable=True),
        sa.Column("current_rollout_id", sa.Text(), nullable=True),
        sa.Column("current_attempt_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_worker"),
        sa.UniqueConstraint("project", "worker_id", name="uq_worker_project_worker_id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Span ids are drawn in blocks, so the column has no default and the sequence stands alone.
        op.execute("CREATE SEQUENCE span_id_seq")
