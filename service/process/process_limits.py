"""Limits of the process itself: descriptors that it may open, and how many connections fit into them."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("bnfold.app")
# Database pool (64 connections, each with WAL and shared memory), blobs being read and written, log, locks.
RESERVED_DESCRIPTORS = 384
_ENOUGH = 65_536  # above this nothing is gained, and some libraries loop over the whole range


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors as far as the hard one allows; return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError) as error:
            log.warning("the limit of open files stays at %d: %s", soft, error)
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def connection_limit(wanted: int) -> int:
    """Return how many connections fit: `wanted`, or what the descriptor limit leaves when that is less."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    fit = max(soft // 2, soft - RESERVED_DESCRIPTORS)
    if fit < wanted:
        log.warning(
            "connections limited to %d instead of %d: the process may open %d files", fit, wanted, soft,
            extra={"hint": "raise the hard limit of open files (ulimit -Hn, LimitNOFILE)"},
        )  # fmt: skip
    return min(wanted, fit)
