"""Models of a tenant: uploaded bytes under an id, with an inspection that a job makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, exists, insert, select, tuple_

from service.errors import Conflict, NotFound
from service.jobs.model import TERMINAL, Job, Kind
from service.jobs.requests import Submission
from service.jobs.service import Jobs
from service.jobs.worker import safe_name
from service.store import ids, references, tables
from service.store.db import Database, now

M, J = tables.models.c, tables.jobs.c


@dataclass(frozen=True)
class Models:
    """Use cases of models."""

    db: Database
    jobs: Jobs

    def create(self, tenant: str, digest: str, filename: str, inspect: bool, trace: str | None) -> Row[Any]:
        """Name the blob; the same digest and file name give the same model again."""
        name = safe_name(filename)
        with self.db.write() as connection:
            references.require_blob(connection, tenant, digest)
            self.db.alone(connection, "model", tenant, digest, name)
            same = (M.tenant == tenant, M.digest == digest, M.filename == name)
            row = connection.execute(select(tables.models).where(*same)).first()
            if row is None:
                values = {"id": ids.new("model"), "tenant": tenant, "digest": digest, "filename": name,
                          "created_at": now()}  # fmt: skip
                row = connection.execute(insert(tables.models).values(**values).returning(*M)).one()
        if not inspect or row.inspection_job is not None:
            return row
        ask = Submission(tenant, digest, Kind.INSPECT, model_id=row.id, filename=name, trace=trace)
        job = self.jobs.submit(ask).job
        with self.db.write() as connection:
            mine = tables.models.update().where(M.id == row.id, M.inspection_job.is_(None))
            connection.execute(mine.values(inspection_job=job.id))
        return self.get(tenant, row.id)

    def get(self, tenant: str, model_id: str) -> Row[Any]:
        """One of the tenant's."""
        with self.db.read() as connection:
            query = select(tables.models).where(M.id == model_id, M.tenant == tenant)
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(
                f"No model {model_id[:60]!r}.", hint="List your models: the start page, or GET /v1/models."
            )
        return row

    def inspection(self, row: Row[Any]) -> Job | None:
        """The job that inspects it."""
        if row.inspection_job is None:
            return None
        try:
            return self.jobs.get(row.tenant, row.inspection_job)
        except NotFound:
            return None  # collected

    def page(self, tenant: str, *, limit: int, before: tuple[float | str, str] | None) -> list[Row[Any]]:
        """Newest first."""
        query = select(tables.models).where(M.tenant == tenant)
        if before is not None:
            query = query.where(tuple_(M.created_at, M.id) < tuple_(*before))
        with self.db.read() as connection:
            return list(connection.execute(query.order_by(M.created_at.desc(), M.id.desc()).limit(limit)))

    def delete(self, tenant: str, model_id: str) -> None:
        """Forget the model; refused while a job of it is not finished."""
        self.get(tenant, model_id)
        open_jobs = exists().where(
            J.model_id == model_id, J.state.not_in([state.value for state in TERMINAL])
        )
        with self.db.write() as connection:
            if connection.execute(select(open_jobs)).scalar():
                raise Conflict(
                    "Jobs of this model are not finished.", code="in_use", hint="Cancel them first."
                )
            connection.execute(delete(tables.models).where(M.id == model_id, M.tenant == tenant))
