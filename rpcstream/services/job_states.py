"""
What may happen to a job in which state, as a table; no store, no clock.
"""

from __future__ import annotations

from enum import Enum

from rpcstream.errors import BadState
from rpcstream.programs.jobs import JobState

__all__ = ["ENDED", "TRANSITIONS", "JobInput", "JobState", "advance"]


class JobInput(Enum):
    """What happens to a job; the values are for error texts."""

    START = "started"
    COMMIT = "committed"
    FINISH = "done"
    RETRY = "queued again"
    FAIL = "failed"
    CANCEL = "cancelled"
    RECOVER = "recovered"


TRANSITIONS: dict[JobState, dict[JobInput, JobState]] = {
    JobState.QUEUED: {
        JobInput.START: JobState.RUNNING,
        JobInput.CANCEL: JobState.CANCELLED,
    },
    JobState.RUNNING: {
        JobInput.COMMIT: JobState.COMMITTING,
        # The destination has it already: INCOMING was answered with COMPLETE.
        JobInput.FINISH: JobState.DONE,
        JobInput.RETRY: JobState.QUEUED,
        JobInput.FAIL: JobState.FAILED,
        JobInput.CANCEL: JobState.CANCELLED,
        # The service ended meanwhile; the transfer id makes the next attempt a resume.
        JobInput.RECOVER: JobState.QUEUED,
    },
    JobState.COMMITTING: {
        # No CANCEL: the destination may publish at this moment, and a job that
        # is published must not be called cancelled.
        JobInput.FINISH: JobState.DONE,
        JobInput.RETRY: JobState.QUEUED,
        JobInput.FAIL: JobState.FAILED,
        # Whether it was published is not known; COMMIT with the same id tells.
        JobInput.RECOVER: JobState.QUEUED,
    },
    # What has ended stays as it is.
    JobState.DONE: {},
    JobState.FAILED: {},
    JobState.CANCELLED: {},
}

ENDED = frozenset(state for state, row in TRANSITIONS.items() if not row)
"""States that a job never leaves."""


def advance(state: JobState, job_input: JobInput) -> JobState:
    """
    The state that follows.

    @raise BadState: this cannot happen in that state.
    """
    following = TRANSITIONS[state].get(job_input)
    if following is None:
        raise BadState(f"a job that is {state.name.lower()} cannot be {job_input.value}")
    return following
