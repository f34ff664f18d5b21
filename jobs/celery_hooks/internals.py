"""What Celery, kombu and billiard keep to themselves, and the rest of the room needs."""

from typing import Any

from billiard.process import current_process
from celery import Celery, current_app
from celery.fixups.django import DjangoWorkerFixup
from kombu.utils.compat import detect_environment


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


def result_pipes(pool: Any) -> dict[int, int]:
    """Of a prefork pool: by the pid of each child, the descriptor that its results are read from."""
    children = getattr(getattr(pool, "_pool", None), "_pool", [])
    return {child.pid: child.outqR_fd for child in children}


def encodable(error: BaseException) -> Any:
    """An exception as Celery stores it in a result: class, message and module, by its JSON serializer."""
    return current_app.backend.prepare_exception(error, "json")
