"""What a worker process does besides running jobs: heartbeats, reaping, collection, webhooks."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from service.engine.base import Consumer, Queue
from service.errors import ServiceError
from service.jobs import leases
from service.jobs.heartbeat import Heartbeat
from service.jobs.worker import Worker
from service.runner.base import JobRunner
from service.store.collector import Collector
from service.webhooks.dispatch import Dispatcher

log = logging.getLogger("bnfold.engine")


@dataclass
class WorkerProcess:
    """All of it, for one process."""

    worker: Worker
    consumer: Consumer
    heartbeat: Heartbeat
    queue: Queue
    runner: JobRunner
    collector: Collector
    dispatcher: Dispatcher

    def serve(self, stop: threading.Event) -> None:
        """Blocks until `stop`; running jobs are then given back to the queue."""
        self.runner.start()
        self.heartbeat.start()
        threads = [
            threading.Thread(target=self._maintain, args=(stop,), name="maintenance", daemon=True),
            threading.Thread(target=self.dispatcher.serve, args=(stop,), name="webhooks", daemon=True),
            threading.Thread(target=self._release, args=(stop,), name="release", daemon=True),
        ]
        for thread in threads:
            thread.start()
        log.info("worker ready", extra={"pools": self.worker.settings.pools, "sandbox": self.runner.level()})
        self.consumer.serve(stop)
        for thread in threads:
            thread.join(timeout=10)

    def close(self) -> None:
        """After `serve`."""
        self.heartbeat.stop()
        self.runner.close()

    def _release(self, stop: threading.Event) -> None:
        """On shutdown, jobs go back to the queue at once instead of waiting for their lease to run out."""
        stop.wait()
        for _ in range(100):
            for attempt in list(self.worker.active.values()):
                attempt.release = True
                attempt.cancel.set()
            if not self.worker.active:
                return
            time.sleep(0.1)

    def _maintain(self, stop: threading.Event) -> None:
        settings = self.worker.settings
        next_collection = next_mending = 0.0
        reconciled = False
        while not stop.is_set():
            try:
                lost = leases.reap(self.worker.db, self.queue, settings)
                if time.monotonic() >= next_mending:
                    next_mending = time.monotonic() + 3.0
                    self.queue.maintain()
                if lost:
                    log.warning("re-queued lost jobs", extra={"count": lost})
                if not reconciled:
                    reconciled = bool(self.collector.reconcile())
                if time.monotonic() >= next_collection:
                    next_collection = time.monotonic() + settings.gc_interval
                    self.collector.run()
            except ServiceError as error:
                log.warning("maintenance put off: %s", error.error_code)
            except Exception:
                log.exception("maintenance failed")
            stop.wait(min(1.0, settings.lease / 4))
