"""Jobs that die of what a test gives them, and who looks at them."""

from collections.abc import Callable
from typing import Any

from django_tenants.utils import schema_context
from rest_framework.test import APIClient

from jobs.models import Job
from jobs.task import TenantTask
from tenants.models import Tenant
from tests.jobs.durables import atomic, bodies, result_of
from tests.people import add_user, client_of

RunJobs = Callable[..., int]
NAN, INF = float("nan"), float("inf")
#: A task's, or a job's
JOB_ID = "0198c0de-0000-7000-8000-000000000000"


def member_of(tenant: Tenant, role: str = "member", **fields: Any) -> APIClient:
    return client_of(tenant, add_user(tenant, "ada", role, **fields))


def raising(error: BaseException) -> Callable[..., Any]:
    def body(task: TenantTask) -> None:
        raise error

    return body


def dead(acme: Tenant, body: Callable[..., Any], run_jobs: RunJobs, *, task: TenantTask = atomic) -> Job:
    """The row of a job that this body was the death of."""
    bodies(body)
    with schema_context(acme.schema_name):
        task.delay_on_commit()
    run_jobs(limit=1)
    job = Job.objects.get()
    assert (job.state, job.token) == ("dead", None), job.error
    assert result_of(acme.schema_name, str(job.id)).status == "FAILURE"
    return job
