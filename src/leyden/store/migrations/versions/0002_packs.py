"""Packs, full text, rollups, retention, the views of trajectories.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SECONDS: sa.Double[float] = sa.Double()
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNTS = (
    "spans", "errors", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "cost_nano", "priced", "timed", "duration_ns",
)  # fmt: skip
DIMENSIONS = ("agent", "provider", "model", "tool", "kind", "status")


def upgrade() -> None:
    unpacked = sa.text("unpacked = 1 AND end_time IS NOT NULL")
    op.add_column("rollout", sa.Column("unpacked", sa.Integer(), server_default="0", nullable=False))
    op.execute(
        "UPDATE rollout SET unpacked = 1 WHERE EXISTS (SELECT 1 FROM span WHERE span.rollout_id = rollout.rollout_id)"
    )
    op.create_index(
        "ix_rollout_unpacked", "rollout", ["end_time"], sqlite_where=unpacked, postgresql_where=unpacked
    )
    op.create_table(
        "pack",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("spans", sa.Integer(), nullable=False),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=False),
        sa.Column("packed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("create_time", SECONDS, nullable=False),
        sa.Column("texts_by", sa.Integer(), server_default="0", nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("directory", sa.LargeBinary(), nullable=False),
        sa.Column("frame", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pack"),
        sa.UniqueConstraint("rollout_id", "part", name="uq_pack_rollout_id_part"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_pack_texts_by", "pack", ["texts_by"])
    op.create_table(
        "pack_object",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("time", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("url", name="pk_pack_object"),
    )
    op.create_table(
        "message",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
        sa.UniqueConstraint("hash", name="uq_message_hash"),
    )
    op.create_table(
        "message_hit",
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("span_row", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "span_row", name="pk_message_hit"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_message_hit_span_row", "message_hit", ["span_row"])
    failed = sa.text("status = 'error' OR fingerprint IS NOT NULL")
    op.create_index("ix_span_failed", "span", ["start_ns"], sqlite_where=failed, postgresql_where=failed)
    op.create_table(
        "rollup",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("grain", sa.Integer(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        *[sa.Column(name, sa.Text(), nullable=False) for name in DIMENSIONS],
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS],
        sa.Column("latency", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "grain", "time", *DIMENSIONS, name="pk_rollup"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "retention",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("max_age_s", SECONDS, nullable=True),
        sa.Column("max_rollouts", sa.BigInteger(), nullable=True),
        sa.Column("max_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("project", "mode", name="pk_retention"),
    )
    _full_text()
    op.execute(TRAJECTORIES)
    op.execute(TRAJECTORY_STEPS)


# For people with an SQL prompt, in the words of trajectory collectors. Quoted, because PostgreSQL folds bare names.
# Times are unix seconds, durations seconds. Only the latest attempt of a rollout is its trajectory.
TRAJECTORIES = """
CREATE VIEW trajectories AS
SELECT
    r.rollout_id AS "id",
    r.project AS "project",
    r.agent AS "agentId",
    r.mode AS "taskType",
    r.status AS "status",
    r.input AS "input",
    r.start_time AS "startTime",
    r.end_time AS "endTime",
    r.end_time - r.start_time AS "duration",
    (SELECT count(*) FROM span s WHERE s.rollout_id = r.rollout_id AND s.attempt_id = r.attempt_id) AS "totalSteps",
    r.failure_reason AS "error",
    r.metadata AS "metadata"
FROM rollout r
WHERE r.project <> ''
"""
TRAJECTORY_STEPS = """
CREATE VIEW trajectory_steps AS
SELECT
    s.rollout_id AS "trajectoryId",
    s.sequence_id AS "stepNumber",
    s.span_id AS "id",
    s.parent_id AS "parentId",
    s.agent AS "agentId",
    s.kind AS "kind",
    s.name AS "name",
    s.tool AS "toolName",
    CASE WHEN s.tool IS NOT NULL THEN s.input_preview END AS "toolInput",
    CASE WHEN s.tool IS NOT NULL THEN s.output_preview END AS "toolOutput",
    s.status AS "status",
    CASE WHEN s.status = 'error' THEN coalesce(s.error_message, s.error_type, 'error') END AS "error",
    s.start_ns / 1000000000.0 AS "startTime",
    s.end_ns / 1000000000.0 AS "endTime",
    (s.end_ns - s.start_ns) / 1000000000.0 AS "duration"
FROM span s
JOIN rollout r ON r.rollout_id = s.rollout_id AND r.attempt_id = s.attempt_id
WHERE r.project <> ''
"""


def _full_text() -> None:
    """The words of each message under its number: an FTS5 index without a copy of the text, or a tsvector with GIN."""
    if op.get_bind().dialect.name == "sqlite":
        # Without positions and sizes it is an eighth as large; phrases are checked in the text itself. The tokenizer only splits
        # at spaces: what a word is, `ingest/words.py` says, for both databases.
        op.execute(
            "CREATE VIRTUAL TABLE message_index USING fts5(body, content='', columnsize=0, detail=none, tokenize='ascii')"
        )
        # Which words stand under which number: read by the sweep, which has to name the words it takes out.
        op.execute("CREATE VIRTUAL TABLE message_index_words USING fts5vocab('message_index', 'instance')")
    else:
        op.execute("CREATE TABLE message_index (rowid BIGINT PRIMARY KEY, body TSVECTOR NOT NULL)")
        op.execute("CREATE INDEX ix_message_index_body ON message_index USING gin (body)")
