"""`run_jobs`, for tests: the outbox drained in this process, through the real claim, gate and completion."""

import uuid
from datetime import UTC, datetime
from functools import cache

from celery import current_app
from django_tenants.utils import schema_context

from jobs.celery_hooks.tracing import trace
from jobs.message import HEADER, durable_header
from jobs.models import Job
from jobs.relay.line import Due, mark, wake
from jobs.relay.maintenance import run_maintenance
from tenants.connection import connection

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def run_jobs(*, limit: int = 1000, ahead: bool = False) -> int:
    """Run every job that is due, and those that they dispatch; how many runs. `ahead`: as if each ETA had come.

    What a body raises is recorded, as a worker would, and not raised here. The transaction around a Django TestCase is
    no hindrance; one of the test's own is, for in it nothing is committed yet.
    """
    if connection.in_transaction():
        raise RuntimeError("Jobs exist when their transaction has committed: call run_jobs() outside of atomic().")
    runs = 0
    with schema_context("public"):
        while runs < limit and (due := _next_due(ahead)):
            for job in due:
                receive(job)
                runs += 1
    return runs


def _next_due(ahead: bool) -> list[Due]:
    if ahead:
        Job.objects.filter(state=Job.State.WAITING, token=None).update(due_at=LONG_AGO, next_send_at=LONG_AGO)
    run_maintenance()
    wake()
    return mark(room=100)


@cache
def _import_tasks() -> None:
    # As a worker does at its start.
    current_app.loader.import_default_modules()


def receive(job: Due) -> None:
    """Do what a worker does with the message of a job."""
    _import_tasks()
    request = {
        HEADER: durable_header(job.schema, job.request_id),
        "lease_token": str(uuid.uuid4()),
        "timelimit": [job.hard_limit, job.soft_limit],
        "ignore_result": True,
    }
    trace(current_app.tasks[job.task], str(job.id), request)
