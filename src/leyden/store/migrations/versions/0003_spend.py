"""What calls through the gateway cost and which they were, own prices, limits of keys.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SECONDS: sa.Double[float] = sa.Double()
DIMENSIONS = ("key_id", "agent", "operation", "provider", "model")
COUNTS = (
    "calls", "errors", "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "cost_nano", "priced",
)  # fmt: skip


def upgrade() -> None:
    op.add_column("key", sa.Column("limits", sa.Text(), nullable=True))
    op.create_table(
        "price_override",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("rates", sa.Text(), nullable=False),
        sa.Column("create_time", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("project", "pattern", name="pk_price_override"),
    )
    op.create_table(
        "spend",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        *[sa.Column(name, sa.Text(), nullable=False) for name in DIMENSIONS],
        *[sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS],
        sa.PrimaryKeyConstraint("project", "day", *DIMENSIONS, name="pk_spend"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spend_rollout",
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", name="pk_spend_rollout"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "model_call",
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("response_id", sa.Text(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", "response_id", name="pk_model_call"),
        sqlite_with_rowid=False,
    )
