"""Jobs of `atomic`, as tests dispatch, claim and deliver them."""

import uuid
from typing import Any

from django_tenants.utils import schema_context

from jobs import deletion
from jobs import lease as leases
from jobs.lease import Lease
from jobs.testing import receive
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.durables import atomic, message_of, sql

OVER = "lease_until = clock_timestamp() - interval '1 second'"


def dispatch(tenant: Tenant, *args: Any, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = atomic.apply_async_on_commit(args, **options)
    return job_id


def claim(job_id: str, *, task: str = atomic.name, token: str = "", hard_limit: float = 30) -> Lease | None:
    return leases.claim(job_id, task=task, token=token or str(uuid.uuid4()), hard_limit=hard_limit)


def held(job_id: str, **options: Any) -> Lease:
    lease = claim(job_id, **options)
    assert lease
    return lease


def change(job_id: str, assignment: str) -> None:
    sql(f"UPDATE public.jobs_job SET {assignment} WHERE id = %s", job_id)


def deliver(job_id: str) -> None:
    receive(message_of(job_id))


def lock_out(tenant: Tenant) -> bool:
    """As its deletion does, until this transaction ends; False if a body is past the gate."""
    with connection.cursor() as cursor:
        cursor.execute(deletion.LOCK, {"class": leases.TENANT_LOCK, "tenant": str(tenant.id)})
        [locked] = cursor.fetchone()
        return bool(locked)
