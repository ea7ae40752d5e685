"""Turns: the order of the queue no longer depends on the clock, and tenants are served in turn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that may be empty: rows without a position come first, in order of their age."""
    op.add_column("jobs", sa.Column("position", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_jobs_position"), "jobs", ["position"], unique=False)
    op.add_column("tenants", sa.Column("served", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Back to order by the clock."""
    op.drop_column("tenants", "served")
    op.drop_index(op.f("ix_jobs_position"), table_name="jobs")
    op.drop_column("jobs", "position")
