"""The transition table, and what it must never allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Conflict
from service.jobs.model import TERMINAL, State
from service.jobs.transitions import TABLE, Cause, after


@given(st.lists(st.sampled_from(Cause), max_size=20))
def test_any_story_ends_only_by_retry_after_its_end(causes: list[Cause]) -> None:
    state = State.QUEUED
    for cause in causes:
        try:
            following = after(state, cause)
        except Conflict:
            continue
        if state in TERMINAL and following is not state:
            assert (cause, following) == (Cause.RETRY, State.QUEUED)
        if state is State.STOPPING:
            assert following in (State.STOPPING, State.CANCELLED), "a stopped job never publishes"
        state = following


def test_success_is_final() -> None:
    assert not [cause for (state, cause) in TABLE if state is State.SUCCEEDED]


def test_every_state_can_be_left_or_is_final() -> None:
    for state in State:
        assert state in TERMINAL or any(source is state for source, _ in TABLE)


def test_refusal_says_what_is_possible() -> None:
    with pytest.raises(Conflict) as caught:
        after(State.RUNNING, Cause.RETRY)
    assert "cancel" in str(caught.value.hint)
