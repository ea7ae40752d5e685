"""What the service answers to a request that does not fit a job's state."""

from __future__ import annotations

import pytest

from service.errors import Conflict
from service.jobs.model import State
from service.jobs.transitions import Cause, after


@pytest.mark.parametrize(
    ("state", "cause", "message", "hint"),
    [
        (State.RUNNING, Cause.RETRY, "A running job cannot be retried.", "You can cancel it."),
        (State.FAILED, Cause.CANCEL, "A failed job cannot be cancelled.", "You can retry it."),
        (State.SUCCEEDED, Cause.RETRY, "A succeeded job cannot be retried.", "Look at the job"),
    ],
)
def test_the_message_says_what_can_be_done(state: State, cause: Cause, message: str, hint: str) -> None:
    with pytest.raises(Conflict) as raised:
        after(state, cause)
    assert str(raised.value).startswith(message)
    assert hint in str(raised.value.hint)
