"""What is wrong on a worker: pools that it cannot offer, threads that fail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that may be empty: workers of the earlier version say nothing."""
    op.add_column("workers", sa.Column("status", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Forget it; workers report again within a lease."""
    op.drop_column("workers", "status")
