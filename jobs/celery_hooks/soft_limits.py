"""Soft time limits end a body, and nothing else that its process does.

The pool signals a child whose task has passed its soft limit. billiard raises wherever that finds the child: in the
middle of a COMMIT, or of the result that goes to the parent, whose loop then ends with all of its other tasks.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import SIG_SOFT_TIMEOUT

from jobs.celery_hooks.internals import runs_in_a_childs_process
from tenants.postgresql.blocks import is_between_blocks

# Seconds after which a limit that came at a bad moment comes again
AGAIN_SECONDS = 0.005

_comes_again = False
_may_raise = False
_is_due = False
_is_installed = False


def start_task() -> None:
    """A task begins in this process: no limit of an earlier one counts."""
    global _is_installed, _is_due, _may_raise
    _is_due = _may_raise = False
    if not _is_installed and SIG_SOFT_TIMEOUT is not None and runs_in_a_childs_process():
        # After each fork billiard sets its own handler, so this comes later: with the first task.
        signal.signal(SIG_SOFT_TIMEOUT, _on_signal)
        _is_installed = True


def is_due() -> bool:
    """Whether the limit has passed, and no body has heard of it yet."""
    return _is_due


@contextmanager
def raised() -> Iterator[None]:
    """Around what users write: the limit raises SoftTimeLimitExceeded in it; at its start, if it has passed already."""
    with _raising(True):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Around what must not be torn apart: the limit raises at its end, in the body that called it."""
    with _raising(False):
        yield
    _raise_if_due()


@contextmanager
def _raising(may_raise: bool) -> Iterator[None]:
    global _may_raise
    before, _may_raise = _may_raise, may_raise
    try:
        _raise_if_due()
        yield
    finally:
        _may_raise = before


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _is_due, _comes_again
    if _comes_again:
        _comes_again = False
    else:
        _is_due = True
    if _is_due and _may_raise and is_between_blocks(frame):
        again = threading.Timer(AGAIN_SECONDS, _signal_again)
        again.daemon = True
        again.start()
    else:
        _raise_if_due()


def _signal_again() -> None:
    global _comes_again
    _comes_again = True
    os.kill(os.getpid(), SIG_SOFT_TIMEOUT)


def _raise_if_due() -> None:
    global _is_due, _may_raise
    if _is_due and _may_raise:
        # Once: what follows, clean-up included, is not interrupted again.
        _is_due = _may_raise = False
        raise SoftTimeLimitExceeded
