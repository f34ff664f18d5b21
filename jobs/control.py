"""What people do to jobs: run a dead one again, discard it, cancel one that has not begun."""

from celery import states
from django.db import transaction
from django.db.models import QuerySet
from django_tenants.utils import quote_schema_name

from jobs import lease as leases
from jobs.models import Job
from tenants.connection import connection

REPLAY = """
    UPDATE public.jobs_job SET
        state = 'waiting', attempt = 0, retries = 0, kills = 0, lost = 0, sends = 0, token = NULL,
        due_at = clock_timestamp(), next_send_at = clock_timestamp(), died_at = NULL
    WHERE id = %(id)s AND state = 'dead'
"""
FORGET_RESULT = "DELETE FROM {schema}.django_celery_results_taskresult WHERE task_id = %(id)s"


def dead_jobs() -> QuerySet[Job]:
    return Job.objects.filter(state=Job.State.DEAD)


def replay(job: Job) -> bool:
    """Let a dead job run again, with all its tries; False if it isn't dead (any more)."""
    lease = leases.find(str(job.pk), task=job.task)
    if lease is None:
        return False
    with transaction.atomic():
        leases.lock_tenant(lease)
        with connection.cursor() as cursor:
            cursor.execute(REPLAY, {"id": lease.id})
            if not cursor.rowcount:
                return False
            # A result never leaves a terminal state, except here: the job is under way again.
            cursor.execute(FORGET_RESULT.format(schema=quote_schema_name(lease.schema)), {"id": lease.id})
    return True


def discard(job: Job) -> bool:
    """Remove a dead job; its FAILURE stays in its tenant's results. False if it isn't dead (any more)."""
    deleted, _ = dead_jobs().filter(pk=job.pk).delete()
    return bool(deleted)


def cancel(job: Job) -> bool:
    """End a job that has not begun, as REVOKED; False if it has begun, or ended."""
    lease = leases.find(str(job.pk), task=job.task)
    return lease is not None and leases.end(lease, state=states.REVOKED, reason="cancelled", where=leases.UNBEGUN)
