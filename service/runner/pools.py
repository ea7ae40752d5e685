"""A runner for each pool of a worker: only jobs that asked for a device get the sandbox's openings for it.

A pool whose device fails its test is not offered; it is tested again from time to time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from folding.errors import BnfoldError, TemporaryFailure
from service.process.supervision import start_thread
from service.runner.base import Crash, JobOutcome, JobRunner, JobSpec, OnEvent, Status
from service.runner.device_check import DeviceState
from service.runner.levels import weakest

_LOG = logging.getLogger("bnfold.runner")
AGAIN_SECONDS: Final = 60.0


class PoolRunner:
    """`JobRunner` that gives each job to the runner of its pool.

    Args:
        runners: by pool.
        tests: by pool, for pools that need a device; called at start and while the device does not work.
    """

    def __init__(
        self,
        runners: Mapping[str, JobRunner],
        tests: Mapping[str, Callable[[], DeviceState]],
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self._runners, self._tests, self._again = dict(runners), dict(tests), again_seconds
        self._started: set[str] = set()
        self._problems: dict[str, str] = {}
        self._closed = threading.Event()

    def start(self) -> None:
        """Start every pool that can be offered.

        Raises: BnfoldError where a pool that needs no device cannot start, or no other pool is left.
        """
        for pool in self._runners:
            self._try(pool)
        if any(pool in self._tests for pool in self._problems):
            start_thread("device-test", self._test_again, self._closed)

    def _try(self, pool: str) -> None:
        """Start a pool, or note why it cannot be offered."""
        runner = self._runners[pool]
        try:
            if pool not in self._started:
                runner.start()
                self._started.add(pool)
        except BnfoldError as error:
            if pool not in self._tests or len(self._runners) == 1:
                raise
            self._note(pool, error.message)
            return
        state = self._tests[pool]() if pool in self._tests else DeviceState(True)
        self._note(pool, "" if state.ok else state.detail or "the device does not work")

    def _note(self, pool: str, problem: str) -> None:
        if problem:
            _LOG.error("pool %s is not offered: %s", pool, problem)
            self._problems[pool] = problem
        elif self._problems.pop(pool, None) is not None:
            _LOG.warning("pool %s is offered again", pool)

    def _test_again(self) -> None:
        while self._problems and not self._closed.wait(self._again):
            for pool in list(self._problems):
                self._try(pool)

    def offered(self) -> list[str]:
        """Return the pools whose jobs can be run here now."""
        return [pool for pool in self._runners if pool in self._started and pool not in self._problems]

    def problems(self) -> dict[str, str]:
        """Return pool -> why it is not offered."""
        return dict(self._problems)

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        """Run one job in its pool; see `JobRunner`."""
        if spec.pool not in self.offered():
            why = self._problems.get(spec.pool, "this worker does not serve it")
            error = TemporaryFailure(f"Pool {spec.pool}: {why}", code="runner_unavailable")
            return JobOutcome(Status.CRASHED, crash=Crash.START, error=error.to_dict())
        return self._runners[spec.pool].run(spec, on_event=on_event, cancel=cancel)

    def level(self) -> str:
        """Return the weakest level of the pools that have started."""
        return weakest(self._runners[pool].level() for pool in self._started)

    def close(self) -> None:
        """Close every pool."""
        self._closed.set()
        for runner in self._runners.values():
            runner.close()
