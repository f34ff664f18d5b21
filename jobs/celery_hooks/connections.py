"""How Celery's workers keep their database connections."""

from celery import Celery
from celery.fixups.django import DjangoWorkerFixup


def tasks_per_connection(app: Celery) -> int | None:
    """For how many tasks a worker keeps a connection, wherever Celery reads that from; None: one."""
    limit: int | None = DjangoWorkerFixup(app).db_reuse_max
    return limit
