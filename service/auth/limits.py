"""Rates: requests of a tenant, and wrong keys of an address. Token buckets of this process."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict

from service.errors import TooMany
from service.settings import Settings

_KEPT = 10_000  # buckets; the one that was used longest ago goes first, and is full again by then


class TokenBuckets:
    """`rate` tokens a second, at most `burst` at once, for each name. A rate of zero: no limit."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: str) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        if self._rate <= 0:
            return 0.0
        clock = time.monotonic()
        with self._lock:
            level, at = self._buckets.get(who, (self._burst, clock))
            level = min(self._burst, level + (clock - at) * self._rate)
            if level < 1:
                return (1 - level) / self._rate
            self._buckets[who] = (level - 1, clock)
            self._buckets.move_to_end(who)
            if len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)
        return 0.0


class RateLimit:
    """Requests of a tenant: `rate_per_minute`, at most `rate_burst` at once. Zero: no limit.

    A count that all processes share would cost a durable write for each request. So each of the host's
    `web_workers` grants an equal part: together they never grant more than the setting says.
    """

    def __init__(self, settings: Settings) -> None:
        share = settings.web_workers
        self._buckets = TokenBuckets(
            settings.rate_per_minute / 60 / share, max(1.0, settings.rate_burst / share)
        )

    def take(self, who: str) -> None:
        """One request; TooMany with the time to wait."""
        wait = self._buckets.take(who)
        if wait:
            raise TooMany("Too many requests.", code="rate_limited", hint="Slow down.", retry_after=wait)


class FailedKeys:
    """Wrong keys of an address: `failed_keys_per_minute`. A right key is never refused.

    IPv6 counts by /64, which is what one customer of a provider has.
    """

    def __init__(self, settings: Settings) -> None:
        allowed = settings.failed_keys_per_minute
        share = max(1.0, allowed / settings.web_workers)
        self._buckets = TokenBuckets(share / 60 if allowed else 0.0, share)

    def note(self, address: str) -> None:
        """Count one; TooMany instead of the usual refusal once there are too many."""
        wait = self._buckets.take(_network(address))
        if wait:
            raise TooMany(
                "Too many requests with a wrong API key came from this address.",
                code="too_many_failures",
                hint="Check the key; the service answers again after the time in Retry-After.",
                retry_after=wait,
            )


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
