"""Jobs of `atomic`, as tests dispatch, claim and deliver them."""

import uuid
from contextlib import AbstractContextManager
from typing import Any

from celery.app.task import Context
from django_tenants.utils import schema_context

from jobs import claim as claims
from jobs import run
from jobs.claim import TENANT_LOCK, Lease
from jobs.relay.statements import TRY_LOCK_TENANT
from jobs.testing import receive
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.durables import atomic, message_of, sql

OVER = "lease_until = clock_timestamp() - interval '1 second'"


def dispatch(tenant: Tenant, *args: Any, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = atomic.apply_async_on_commit(args, **options)
    return job_id


def claim(job_id: str, *, token: str = "", hard_limit: float = 30, atomic_task: bool = False) -> Lease | None:
    token = token or str(uuid.uuid4())
    return claims.claim(job_id, task=atomic.name, token=token, hard_limit=hard_limit, atomic=atomic_task)


def held(job_id: str, **options: Any) -> Lease:
    lease = claim(job_id, **options)
    assert lease
    return lease


def completing(lease: Lease) -> AbstractContextManager[run.Completion]:
    """As the body of this lease does it."""
    return run.completing(Context(lease=lease))


def change(job_id: str, assignment: str) -> None:
    sql(f"UPDATE public.jobs_job SET {assignment} WHERE id = %s", job_id)


def deliver(job_id: str) -> None:
    receive(message_of(job_id))


def lock_out(tenant: Tenant) -> bool:
    """As its deletion does, until this transaction ends; False if a body is past the gate."""
    with connection.cursor() as cursor:
        cursor.execute(TRY_LOCK_TENANT, {"class": TENANT_LOCK, "tenant": str(tenant.id)})
        [locked] = cursor.fetchone()
        return bool(locked)
