"""Jobs of kind `verify` compare a second uploaded file with their input."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that may be empty: all other kinds of job have no second file."""
    op.add_column("jobs", sa.Column("candidate_digest", sa.String(length=71), nullable=True))


def downgrade() -> None:
    """Forget which files were compared."""
    op.drop_column("jobs", "candidate_digest")
