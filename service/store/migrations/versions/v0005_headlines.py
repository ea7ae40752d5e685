"""Headlines: verdict and health in one sentence beside each job, and a name that its owner gives it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that may be empty: jobs of older versions have no headline."""
    op.add_column("jobs", sa.Column("headline", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("health", sa.String(length=16), nullable=True))
    op.add_column("jobs", sa.Column("label", sa.String(length=200), nullable=True))


def downgrade() -> None:
    """Forget headlines and names."""
    for name in ("label", "health", "headline"):
        op.drop_column("jobs", name)
