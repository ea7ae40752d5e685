"""The schema. Alembic's migrations build it; `tests/integration/service/test_store.py` compares the two.

Times are seconds since the epoch (float), digests are `sha256:<hex>`, every row of a tenant carries it.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("quotas", JSON, nullable=False),  # overrides of Settings.quota_* by name without the prefix
    Column("served", BigInteger),  # counts claims of all tenants: the lowest was served longest ago
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("mac", String(64), nullable=False),  # HMAC-SHA256(pepper, secret), hex
    Column("scopes", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("replaces", String(40)),
)

blobs = Table(
    "blobs",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("last_used_at", Float, nullable=False, index=True),
)

models = Table(
    "models",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("filename", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("inspection_job", String(40)),
    Index("ix_models_tenant_created", "tenant", "created_at", "id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("pool", String(16), nullable=False),
    Column("model_id", String(40), index=True),
    Column("filename", String(255), nullable=False),
    Column("input_digest", String(71), nullable=False, index=True),
    Column("calibration_digest", String(71)),
    Column("probe_digest", String(71)),
    Column("candidate_digest", String(71)),  # what a job of kind `verify` compares with its input
    Column("options", JSON, nullable=False),
    Column("cache_key", String(64), nullable=False),
    Column("cached_from", String(40)),
    Column("attempt", Integer, nullable=False),  # the fencing token: grows with every claim, never shrinks
    # Called `losses` in the database: a column that is renamed there stops processes of the earlier version,
    # which go on beside this one in a rolling restart.
    Column("losses", Integer, key="lost_attempts", nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("lease_owner", String(120)),
    Column("lease_until", Float),
    Column("not_before", Float, nullable=False),
    Column("stage", String(32)),
    Column("progress", Float),
    Column("message", Text),
    Column("event_seq", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("verdict", String(16)),
    Column("headline", JSON),  # folding.report.Headline
    Column("health", String(16)),  # its state, to filter by
    Column("label", String(200)),  # the name that the owner gave the job
    Column("sandbox", String(16)),
    Column("error", JSON),
    Column("report_digest", String(71), index=True),
    Column("artifact_digest", String(71), index=True),
    Column("artifact_bytes", BigInteger),
    Column("recalibrated_digest", String(71), index=True),  # the second artifact
    Column("recalibrated", JSON),  # see service.jobs.results
    Column("trace", String(64)),
    Column("position", BigInteger, index=True),  # order of submission, whatever the clock says
    Column("cost", JSON),  # see service.jobs.results.cost
    Index("ix_jobs_tenant_created", "tenant", "created_at", "id"),
    Index("ix_jobs_tenant_cache", "tenant", "cache_key"),
    Index("ix_jobs_queue", "state", "pool", "created_at"),
    Index("ix_jobs_lease", "state", "lease_until"),
    Index("ix_jobs_turn", "state", "kind", "tenant", "position"),
    Index("ix_jobs_finished", "finished_at"),
)

events = Table(
    "events",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("type", String(16), nullable=False),
    Column("data", JSON, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("job_id", String(40), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # published | quarantined
    Column("media_type", String(100), nullable=False),
    Column("job_id", String(40), nullable=False),
    Column("created_at", Float, nullable=False),
)

renderings = Table(
    "renderings",
    metadata,
    Column("report_digest", String(71), primary_key=True),
    Column("form", String(20), primary_key=True),  # see service/reports/forms.py
    Column("version", Integer, nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("channel", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("updated_at", Float, nullable=False),
)

release_history = Table(
    "release_history",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("channel", String(100), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String(71), nullable=False, index=True),
    Column("note", Text, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("at", Float, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("length", BigInteger),
    Column("offset", BigInteger, nullable=False),
    Column("attrs", Text, nullable=False),  # Upload-Metadata, as it came
    Column("digest", String(71)),
    Column("lock_until", Float, nullable=False),
    Column("lock_owner", String(40)),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("digest", String(71), nullable=False, index=True),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("events", JSON, nullable=False),
    Column("secret", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(80), primary_key=True),
    Column(
        "webhook_id", String(40), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("tenant", String(64), nullable=False),
    Column("event", String(40), nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", String(16), nullable=False),  # pending | delivered | failed
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("log", JSON, nullable=False),  # [{at, status, error, seconds}]
    Column("created_at", Float, nullable=False),
    Index("ix_deliveries_due", "state", "next_at"),
)

usage = Table(
    "usage",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("day", Integer, primary_key=True),  # days since the epoch, UTC
    Column("uploaded_bytes", BigInteger, nullable=False, server_default=text("0")),
)

tallies = Table(
    "tallies",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("label", String(120), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(120), primary_key=True),
    Column("pools", JSON, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("sandbox", String(16), nullable=False),
    Column("version", String(40), nullable=False),
    Column("seen_at", Float, nullable=False),
    # {"pools": {name: why it is not offered}, "faults": {thread: what}, "errors": {thread: count}}
    Column("status", JSON, nullable=True),
)
