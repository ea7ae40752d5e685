"""The one table of what may follow what. Every change of `jobs.state` goes through `after`."""

from __future__ import annotations

from enum import StrEnum

from service.errors import Conflict
from service.jobs.model import State


class Cause(StrEnum):
    """What makes a job's state change."""

    CLAIM = "claim"  # a worker takes it
    CANCEL = "cancel"  # its owner asks to stop
    PASS = "pass"  # ran, verdict pass
    REJECT = "reject"  # ran, any other verdict
    FAIL = "fail"  # the model's or the user's error, or crashes used up
    CRASH = "crash"  # the runner died; there is another try
    LOSE = "lose"  # the worker's lease ran out
    RELEASE = "release"  # the worker gives it back (shutdown)
    STOPPED = "stopped"  # the worker confirms the stop
    RETRY = "retry"  # its owner wants another go


TABLE: dict[tuple[State, Cause], State] = {
    (State.QUEUED, Cause.CLAIM): State.RUNNING,
    (State.QUEUED, Cause.CANCEL): State.CANCELLED,
    (State.QUEUED, Cause.FAIL): State.FAILED,  # its input is gone
    (State.RUNNING, Cause.CANCEL): State.STOPPING,
    (State.RUNNING, Cause.PASS): State.SUCCEEDED,
    (State.RUNNING, Cause.REJECT): State.REJECTED,
    (State.RUNNING, Cause.FAIL): State.FAILED,
    (State.RUNNING, Cause.CRASH): State.QUEUED,
    (State.RUNNING, Cause.LOSE): State.QUEUED,
    (State.RUNNING, Cause.RELEASE): State.QUEUED,
    # A job that was asked to stop ends as cancelled, whatever its worker reports or fails to report.
    (State.STOPPING, Cause.CANCEL): State.STOPPING,
    (State.STOPPING, Cause.STOPPED): State.CANCELLED,
    (State.STOPPING, Cause.PASS): State.CANCELLED,
    (State.STOPPING, Cause.REJECT): State.CANCELLED,
    (State.STOPPING, Cause.FAIL): State.CANCELLED,
    (State.STOPPING, Cause.CRASH): State.CANCELLED,
    (State.STOPPING, Cause.LOSE): State.CANCELLED,
    (State.STOPPING, Cause.RELEASE): State.CANCELLED,
    # Asking twice is no error.
    (State.CANCELLED, Cause.CANCEL): State.CANCELLED,
    (State.FAILED, Cause.RETRY): State.QUEUED,
    (State.CANCELLED, Cause.RETRY): State.QUEUED,
    (State.REJECTED, Cause.RETRY): State.QUEUED,
}


# What its owner may ask for, and what the job then is.
_ASKED = {Cause.CANCEL: "cancelled", Cause.RETRY: "retried"}


def after(state: State, cause: Cause) -> State:
    """The state that follows; Conflict where nothing may."""
    try:
        return TABLE[state, cause]
    except KeyError:
        can = [f"You can {each} it." for each in _ASKED if (state, each) in TABLE and each is not cause]
        raise Conflict(
            f"A {state} job cannot be {_ASKED.get(cause, cause)}.",
            code="wrong_state",
            hint=" ".join(can) or "Look at the job: it may have ended meanwhile.",
            details={"state": state.value},
        ) from None
