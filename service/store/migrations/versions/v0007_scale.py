"""Indexes for queues and tables of millions of jobs: claims by tenant, retention by time of the end."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add indexes; processes of the earlier version go on beside."""
    op.create_index("ix_jobs_turn", "jobs", ["state", "kind", "tenant", "position"], unique=False)
    op.create_index("ix_jobs_finished", "jobs", ["finished_at"], unique=False)


def downgrade() -> None:
    """Without them everything works, more slowly."""
    op.drop_index("ix_jobs_finished", table_name="jobs")
    op.drop_index("ix_jobs_turn", table_name="jobs")
