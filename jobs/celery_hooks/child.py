"""What a child of the prefork pool can't be without: the pipes to its parent, and descriptors to open.

A body may close the pipes, and another file may take their place; a child that goes on then waits for ever, or writes
a task's outcome into somebody's connection. It ends instead, and its parent starts another one.
"""

import logging
import os

from billiard.process import current_process

from jobs.celery_hooks.internals import runs_in_a_childs_process

logger = logging.getLogger(__name__)

EXIT_CODE = 70
# Descriptors of the pipes, and which file each of them is
_pipes: dict[int, tuple[int, int]] = {}


def remember_pipes() -> None:
    """Before a task, in whatever process."""
    if not _pipes and runs_in_a_childs_process():
        process = current_process()
        ends = (process.inq._reader, process.outq._writer)
        _pipes.update({end.fileno(): _file(end.fileno()) for end in ends})


def end_if_cut_off() -> None:
    """After what users write: nothing more is recorded of an attempt whose child ends here."""
    try:
        intact = all(_file(descriptor) == file for descriptor, file in _pipes.items())
    except OSError:
        intact = False
    if not intact:
        _end("A task closed the pipes to the worker")


def end_if_exhausted() -> None:
    """After a task, whose outcome is recorded."""
    if not _pipes:
        return
    try:
        os.close(os.dup(next(iter(_pipes))))
    except OSError as error:
        _end(f"A task left nothing to open a file with ({error})")


def _file(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _end(reason: str) -> None:
    logger.critical("%s: this child ends", reason)
    os._exit(EXIT_CODE)
