"""Every setting of the service, from `BNFOLD_*` variables (or a `.env` file the operator names)."""

from __future__ import annotations

import ipaddress
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

GIB = 1 << 30
MIB = 1 << 20


class Settings(BaseSettings):
    """The process's configuration. Defaults run one machine safely: loopback, SQLite, a folder, a jail."""

    model_config = SettingsConfigDict(env_prefix="BNFOLD_", extra="forbid", frozen=False)

    host: str = Field(default="127.0.0.1", description="Address to bind. A public one needs an API key.")
    port: int = Field(default=8750, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    web_workers: int = Field(default=1, ge=1, le=64, description="HTTP processes of `bnfold serve`.")
    public_url: str = Field(default="", description="Address that visitors use, for links and snippets.")
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Host names that requests may carry; comma-separated. Empty: loopback names while no key "
        "exists (keeps other web sites' pages away by DNS rebinding), any once keys are required.",
    )

    data_dir: Path = Field(default=Path("var/bnfold"), description="Folder of database, blobs and scratch.")
    database_url: str = Field(default="", description="SQLAlchemy URL. Empty: SQLite in the data folder.")
    blob_url: str = Field(default="", description="`s3://bucket/prefix`, or empty for the data folder.")
    s3_endpoint: str = Field(default="", description="Endpoint of an S3-compatible store.")
    s3_region: str = Field(default="us-east-1", description="Region of the bucket.")
    s3_access_key_id: str = Field(default="", description="Key of the bucket; empty: AWS's usual sources.")
    s3_secret_access_key: SecretStr = Field(default=SecretStr(""), description="Its secret.")
    scratch_dir: Path | None = Field(default=None, description="Where jobs work. Default: data folder.")

    engine: Literal["embedded", "procrastinate"] = Field(
        default="embedded", description="How jobs get to workers."
    )
    pools: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["cpu"], description="Pools that this worker serves: cpu, cuda."
    )
    slots: int = Field(
        default_factory=lambda: max(1, (os.cpu_count() or 2) // 2),
        ge=1,
        le=256,
        description="Jobs that one worker process runs at a time.",
    )
    warm_formats: Annotated[list[Literal["onnx", "tensorflow"]], NoDecode] = Field(
        default=["onnx", "tensorflow"],
        description="Formats whose libraries waiting processes hold: onnx, tensorflow. Without tensorflow an "
        "idle slot takes some 0.5 GB less, and a TensorFlow or Keras model waits for its imports.",
    )
    inspect_slots: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Inspections that a worker runs beside, in a lane of their own.",
    )
    runner: Literal["process", "memory"] = Field(
        default="process", description="`process` isolates every job; `memory` only pretends (engine tests)."
    )
    allow_unsandboxed: bool = Field(default=False, description="Start even where no jail can be had.")
    spawn_supervisor: bool = Field(
        default=True, description="Embedded engine: HTTP processes keep one supervisor alive."
    )

    max_upload_bytes: int = Field(default=20 * GIB, ge=1, description="Largest body; cut while streaming.")
    max_json_bytes: int = Field(default=MIB, ge=1024, description="Largest JSON body.")
    header_timeout: float = Field(default=10.0, gt=0, description="Seconds until a request's headers are in.")
    body_idle_timeout: float = Field(default=30.0, gt=0, description="Seconds between two pieces of a body.")
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        description="After SIGTERM, seconds in which `/readyz` says 503 and requests are still answered, so "
        "that a balancer can send them elsewhere.",
    )
    body_timeout: float = Field(default=3600.0, gt=0, description="Seconds until a body is in.")
    max_connections: int = Field(
        default=8192,
        ge=1,
        description="Open connections per HTTP process; fewer where the limit of open files is lower.",
    )
    max_wait: float = Field(default=60.0, ge=0, description="Longest `?wait=` and `Prefer: wait`, seconds.")
    fold_wait: float = Field(default=30.0, ge=0, description="How long POST /v1/fold waits unless told.")

    job_timeout: float = Field(default=1800.0, gt=0, description="Wall-clock seconds of one attempt.")
    job_cpu_seconds: float = Field(
        default=120.0, ge=0, description="CPU seconds of one attempt, for each processor; 0: no bound."
    )
    job_cpu_seconds_per_mib: float = Field(
        default=4.0, ge=0, description="CPU seconds on top, for each MiB of input and each processor."
    )
    job_memory_bytes: int = Field(default=0, ge=0, description="Memory of one attempt; 0: runner's own.")
    device_memory_bytes: int = Field(
        default=0, ge=0, description="GPU memory that one session may take; 0: what the device has."
    )
    lease: float = Field(default=30.0, gt=0.2, description="Seconds without a heartbeat until re-queued.")
    alive_file: Path | None = Field(
        default=None,
        description="File that a worker touches a few times a minute while its heartbeat runs; for probes.",
    )
    max_attempts: int = Field(default=4, ge=1, description="Lost attempts until a job fails.")
    max_crashes: int = Field(default=2, ge=1, description="Runner crashes until a job fails.")

    report_memory_bytes: int = Field(
        default=2 * GIB, ge=64 * MIB, description="Memory of the process that renders one report."
    )
    report_timeout: float = Field(
        default=120.0, ge=1, description="Its CPU seconds; twice that by the clock."
    )

    retention_days: float = Field(default=30.0, gt=0, description="Age at which finished jobs may go.")
    storage_cap_bytes: int = Field(default=0, ge=0, description="Oldest jobs go above this; 0: no cap.")
    gc_interval: float = Field(default=600.0, gt=0, description="Seconds between two rounds of collection.")
    gc_grace: float = Field(default=3600.0, ge=0, description="Age below which no unreferenced blob goes.")
    upload_expiry: float = Field(default=86400.0, gt=0, description="Seconds an unfinished upload is kept.")

    pepper: SecretStr = Field(
        default=SecretStr(""),
        description="Server secret behind key hashes. Empty: made in the data folder.",
    )
    require_keys: bool = Field(default=False, description="Keys needed even while none exists.")
    rate_per_minute: float = Field(
        default=0.0, ge=0, description="Requests a minute and tenant, on each API host; 0: any."
    )
    failed_keys_per_minute: int = Field(
        default=60, ge=0, description="Wrong keys a minute and address, on each API host; 0: any number."
    )
    oidc_file: Path | None = Field(
        default=None, description="Trust file for tokens of GitHub and GitLab pipelines (extra `oidc`)."
    )
    rate_burst: int = Field(default=60, ge=1, description="Requests that may come at once.")
    quota_running: int = Field(default=0, ge=0, description="Running jobs per tenant; 0: any.")
    quota_queued: int = Field(default=0, ge=0, description="Waiting jobs per tenant; 0: any.")
    quota_stored_bytes: int = Field(default=0, ge=0, description="Stored bytes per tenant; 0: any.")
    quota_upload_bytes: int = Field(default=0, ge=0, description="Bytes a day and tenant; 0: any.")

    webhook_allow_private: bool = Field(default=False, description="Let webhooks reach private addresses.")
    webhook_timeout: float = Field(default=10.0, gt=0, description="Seconds for one delivery.")
    webhook_attempts: int = Field(default=8, ge=1, description="Deliveries tried until one is given up.")

    log_level: str = Field(default="info", description="debug, info, warning or error.")
    log_format: Literal["json", "text"] = Field(default="json", description="Form of log lines on stderr.")
    otel_endpoint: str = Field(default="", description="OTLP/HTTP endpoint for traces (extra `otel`).")

    @field_validator("allowed_hosts", "pools", "warm_formats", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @cached_property
    def db_url(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute()}/bnfold.db"

    @property
    def scratch(self) -> Path:
        """Folder in which attempts get their own folders."""
        return (self.scratch_dir or self.data_dir / "scratch").absolute()

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False
