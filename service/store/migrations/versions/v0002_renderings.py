"""Forms of reports that were made once and are kept; the cost of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table and a column that may be empty: old rows, and processes of the earlier version, go on."""
    op.create_table(
        "renderings",
        sa.Column("report_digest", sa.String(length=71), nullable=False),
        sa.Column("form", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("report_digest", "form", name=op.f("pk_renderings")),
    )
    op.create_index(op.f("ix_renderings_digest"), "renderings", ["digest"], unique=False)
    op.add_column("jobs", sa.Column("cost", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Forget the forms and the costs; the forms can be made again."""
    op.drop_column("jobs", "cost")
    op.drop_index(op.f("ix_renderings_digest"), table_name="renderings")
    op.drop_table("renderings")
