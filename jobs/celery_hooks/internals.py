"""What Celery, kombu and billiard keep to themselves, and the rest of the room needs."""

import select
from typing import Any

from billiard.process import current_process
from celery import Celery, current_app
from celery.fixups.django import DjangoWorkerFixup
from kombu.utils.compat import detect_environment

try:
    from greenlet import GreenletExit as GreenletExit
except ImportError:  # there are no greenlets

    class GreenletExit(BaseException):  # type: ignore[no-redef]  # in the place of what is not installed
        """What a pool of greenlets ends one with."""


def tasks_per_connection(app: Celery) -> int | None:
    """For how many tasks a worker keeps a database connection, wherever Celery reads that from; None: one."""
    limit: int | None = DjangoWorkerFixup(app).db_reuse_max
    return limit


def runs_in_a_childs_process() -> bool:
    """Whether this is a child of a prefork pool."""
    return bool(current_process().name != "MainProcess")


def runs_in_greenlets() -> bool:
    """Whether the worker's pool runs each task in a greenlet of its own."""
    return bool(detect_environment() != "default")


def children_at_work(pool: Any) -> set[int]:
    """Of a prefork pool: the pids of the children that live, and have sent no result which nobody has read yet."""
    return {child.pid for child in pool._pool._pool if child.exitcode is None and not _has_data(child.outqR_fd)}


def _has_data(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def encodable(error: BaseException) -> Any:
    """An exception as Celery stores it in a result: class, message and module, by its JSON serializer."""
    return current_app.backend.prepare_exception(error, "json")
