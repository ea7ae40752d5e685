"""A second artifact of a job, with the statistics of its calibration data, beside the faithful one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that may be empty: jobs of older versions have no second artifact."""
    op.add_column("jobs", sa.Column("recalibrated_digest", sa.String(length=71), nullable=True))
    op.add_column("jobs", sa.Column("recalibrated", sa.JSON(), nullable=True))
    op.create_index("ix_jobs_recalibrated_digest", "jobs", ["recalibrated_digest"], unique=False)


def downgrade() -> None:
    """Forget second artifacts; their bytes go with the next collection."""
    op.drop_index("ix_jobs_recalibrated_digest", table_name="jobs")
    for name in ("recalibrated", "recalibrated_digest"):
        op.drop_column("jobs", name)
