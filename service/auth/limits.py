"""Requests per tenant: a token bucket in each process, which has its share of what the host grants."""

from __future__ import annotations

import threading
import time

from service.errors import TooMany
from service.settings import Settings


class RateLimit:
    """`rate_per_minute` tokens a minute, at most `rate_burst` at once. Zero: no limit.

    A count that all processes share would cost a durable write for each request. So each of the host's
    `web_workers` grants an equal part: together they never grant more than the setting says.
    """

    def __init__(self, settings: Settings) -> None:
        share = settings.web_workers
        self._rate = settings.rate_per_minute / 60 / share
        self._burst = max(1.0, settings.rate_burst / share)
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, who: str) -> None:
        """One request; TooMany with the time to wait."""
        if self._rate <= 0:
            return
        clock = time.monotonic()
        with self._lock:
            level, at = self._buckets.get(who, (self._burst, clock))
            level = min(self._burst, level + (clock - at) * self._rate)
            if level < 1:
                wait = (1 - level) / self._rate
                raise TooMany("Too many requests.", code="rate_limited", hint="Slow down.", retry_after=wait)
            if len(self._buckets) > 10_000:
                self._buckets.clear()
            self._buckets[who] = (level - 1, clock)
