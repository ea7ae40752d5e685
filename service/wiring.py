"""The one place where settings become objects. Everything else gets what it needs handed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.auth.keys import Keys, load_pepper
from service.auth.limits import FailedKeys, RateLimit
from service.engine.embedded import EmbeddedConsumer, EmbeddedQueue
from service.engine.lanes import Lanes
from service.engine.process import WorkerProcess
from service.files.private_files import private_folder
from service.jobs.collector import Collector
from service.jobs.heartbeat import Heartbeat
from service.jobs.model import Kind
from service.jobs.queue import Consumer, Queue
from service.jobs.service import Jobs
from service.jobs.worker import Worker
from service.models import Models
from service.releases import Releases
from service.reports.renderings import Renderings
from service.runner.base import JobRunner
from service.settings import Settings
from service.store.blobs import Blobs, Verifier
from service.store.change_feed import Changes
from service.store.db import Database
from service.store.migrate import migrate, revision
from service.store.open_blobs import open_blobs
from service.uploads import Uploads
from service.webhooks.dispatch import Dispatcher
from service.webhooks.registry import Webhooks, encrypt_old_secrets
from service.webhooks.secret_box import SecretBox

if TYPE_CHECKING:
    from service.auth.oidc import PipelineTokens


@dataclass(frozen=True)
class Services:
    """What routes and workers work with."""

    settings: Settings
    db: Database
    blobs: Blobs
    verifier: Verifier
    changes: Changes
    queue: Queue
    jobs: Jobs
    models: Models
    uploads: Uploads
    releases: Releases
    webhooks: Webhooks
    keys: Keys
    rates: RateLimit
    failed_keys: FailedKeys
    tokens: PipelineTokens | None
    collector: Collector
    renderings: Renderings

    def close(self) -> None:
        """Threads and connections end."""
        self.renderings.close()
        self.changes.close()
        self.db.close()


def build(settings: Settings) -> Services:
    """Open stores, bring the schema up to date, and wire everything. Raises Unavailable, StorageFull."""
    private_folder(settings.data_dir)
    db = Database(settings.db_url)
    migrate(db, settings)
    blobs = open_blobs(settings)
    verifier = Verifier(blobs)
    pepper = load_pepper(settings)
    secrets = SecretBox(pepper)
    encrypt_old_secrets(db, secrets)
    queue = _queue(settings, db)
    jobs = Jobs(db, queue, verifier, settings)
    return Services(
        settings=settings,
        db=db,
        blobs=blobs,
        verifier=verifier,
        changes=Changes(db),
        queue=queue,
        jobs=jobs,
        models=Models(db, jobs),
        uploads=Uploads(db, blobs, settings),
        releases=Releases(db, verifier),
        webhooks=Webhooks(db, settings, secrets),
        keys=Keys(db, pepper),
        rates=RateLimit(settings),
        failed_keys=FailedKeys(settings),
        tokens=_tokens(settings),
        collector=Collector(db, blobs, settings),
        renderings=Renderings(db, blobs, verifier, settings),
    )


def prepare_database(settings: Settings) -> str:
    """Bring the schema, and the queue's own tables, up to date; return the revision. Raises: Unavailable."""
    private_folder(settings.data_dir)
    db = Database(settings.db_url)
    try:
        migrate(db, settings)
        _queue(settings, db)
        return revision(db) or ""
    finally:
        db.close()


def build_worker(services: Services, runner: JobRunner | None = None) -> WorkerProcess:
    """The worker side, around the same services."""
    settings = services.settings
    runner = runner or _runner(settings)
    worker = Worker(services.db, services.blobs, runner, services.queue, settings)
    return WorkerProcess(
        worker=worker,
        consumer=_consumer(services, worker),
        heartbeat=Heartbeat(worker, services.changes),
        queue=services.queue,
        runner=runner,
        collector=services.collector,
        dispatcher=Dispatcher(services.db, settings, SecretBox(services.keys.pepper)),
    )


def _tokens(settings: Settings) -> PipelineTokens | None:
    if settings.oidc_file is None:
        return None
    from service.auth.oidc import PipelineTokens  # PyJWT comes with the extra `oidc`

    return PipelineTokens(settings.oidc_file)


def _queue(settings: Settings, db: Database) -> Queue:
    if settings.engine == "procrastinate":
        from service.engine.procrastinate import ProcrastinateQueue

        return ProcrastinateQueue(settings, db)
    return EmbeddedQueue(settings)


def _consumer(services: Services, worker: Worker) -> Consumer:
    main, slots = _engine_consumer(services, worker), services.settings.inspect_slots
    if not slots:
        return main
    return Lanes(main, EmbeddedConsumer(worker, services.changes, slots, (Kind.INSPECT,)))


def _engine_consumer(services: Services, worker: Worker) -> Consumer:
    if services.settings.engine == "procrastinate":
        from service.engine.procrastinate import ProcrastinateConsumer

        return ProcrastinateConsumer(worker, services.db)
    return EmbeddedConsumer(worker, services.changes)


def _runner(settings: Settings) -> JobRunner:
    if settings.runner == "memory":
        from service.runner.memory import MemoryRunner

        return MemoryRunner()
    from service.runner.config import RunnerConfig
    from service.runner.device_check import check_device
    from service.runner.pools import PoolRunner
    from service.runner.process import ProcessRunner
    from service.runner.warm import MODULES, ONNX_MODULES

    settings.scratch.mkdir(parents=True, exist_ok=True)
    base = RunnerConfig(
        scratch=settings.scratch,
        # Processes kept warm. An inspection takes one of them and another is warmed at once; keeping one more
        # for the inspections' lane would cost every idle service a further process with TensorFlow in it.
        slots=settings.slots,
        warm=MODULES if "tensorflow" in settings.warm_formats else ONNX_MODULES,
        allow_unsandboxed=settings.allow_unsandboxed,
    )
    if "cuda" not in settings.pools:
        return ProcessRunner(base)
    # Jobs of other pools get no opening for the device; beside them one warm process waits for its jobs.
    cuda = replace(base, cuda=True, slots=1 if len(settings.pools) > 1 else base.slots)
    configs = {pool: cuda if pool == "cuda" else base for pool in settings.pools}
    return PoolRunner(
        {pool: ProcessRunner(config) for pool, config in configs.items()},
        {"cuda": lambda: check_device(cuda)},
    )
