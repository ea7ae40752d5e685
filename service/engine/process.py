"""What a worker process does besides running jobs: heartbeats, reaping, collection, webhooks."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import ServiceError
from service.jobs import leases
from service.jobs.collector import Collector
from service.jobs.heartbeat import Heartbeat
from service.jobs.queue import Consumer, Queue
from service.jobs.worker import Worker
from service.process.machine_faults import as_machine_fault
from service.process.supervision import FAULTS, start_thread, supervise
from service.runner.base import JobRunner
from service.runner.files import scratch
from service.webhooks.dispatch import Dispatcher

log = logging.getLogger("bnfold.engine")
_SWEEP_SECONDS = 60.0
_END_SECONDS = 1.0


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
    _never: threading.Event = field(default_factory=threading.Event)

    def serve(self, stop: threading.Event) -> None:
        """Blocks until `stop`; running jobs are then given back to the queue."""
        with suppress(OSError):  # later is soon enough
            scratch.sweep(self.worker.settings.scratch)
        self.runner.start()
        self.heartbeat.start()
        work: dict[str, Callable[[], object]] = {
            "maintenance": lambda: self._maintain(stop),
            "webhooks": lambda: self.dispatcher.serve(stop),
            "release": lambda: self._release(stop),
        }
        # The last has its work to do when `stop` is set, so it ends with the process.
        threads = [start_thread(name, act, self._never if name == "release" else stop)
                   for name, act in work.items()]  # fmt: skip
        log.info("worker ready", extra={"pools": self.worker.pools(), "sandbox": self.runner.level()})
        supervise("consumer", lambda: self.consumer.serve(stop), stop)
        deadline = time.monotonic() + _END_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

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
        next_collection = next_mending = next_sweep = 0.0
        reconciled = False
        while not stop.is_set():
            try:
                lost = leases.reap(self.worker.db, self.queue, settings)
                if time.monotonic() >= next_mending:
                    next_mending = time.monotonic() + 3.0
                    self.queue.maintain()
                if lost:
                    log.warning("re-queued lost jobs", extra={"count": lost})
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + _SWEEP_SECONDS
                    self._sweep()
                if not reconciled:
                    reconciled = bool(self.collector.reconcile())
                if time.monotonic() >= next_collection:
                    next_collection = time.monotonic() + settings.gc_interval
                    self.collector.run()
                FAULTS.clear("maintenance")
            except Exception as error:
                fault = as_machine_fault(error, "maintenance") or error
                FAULTS.note("maintenance", fault)
                if isinstance(fault, ServiceError):
                    log.warning("maintenance put off: %s", fault.error_code)
                else:
                    log.exception("maintenance failed")
            stop.wait(min(1.0, settings.lease / 4))

    def _sweep(self) -> None:
        """Remove what workers and runners that were killed have left where jobs work."""
        gone = sum(map(scratch.sweep, {self.worker.settings.scratch, Path(tempfile.gettempdir())}))
        if gone:
            log.info("removed folders of processes that are gone", extra={"count": gone})
