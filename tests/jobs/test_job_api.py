"""GET /api/v1/jobs/{id}/: a tenant sees each state of its own jobs, and nothing of others'."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from celery.exceptions import Ignore
from django_tenants.utils import schema_context
from rest_framework.test import APIClient

from jobs.models import Job
from jobs.relay import line
from jobs.task import TenantTask
from tenants.models import Tenant
from tenants.services import resume_tenant, suspend_tenant
from tests.jobs.durables import atomic, bodies
from tests.people import add_user, client_of

RunJobs = Callable[..., int]


@pytest.fixture
def client(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada"))


def dispatch(tenant: Tenant, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = atomic.apply_async_on_commit((), **options)
    return job_id


def get(client: APIClient, job_id: str) -> Any:
    response = client.get(f"/api/v1/jobs/{job_id}/")
    assert response.status_code == 200, response.content
    return response.json()


def test_a_job_under_way(client: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = dispatch(acme)
    assert (
        get(client, job_id).items()
        >= {
            "id": job_id,
            "task": atomic.name,
            "state": "pending",
            "attempts": 0,
            "result": None,
            "error": None,
            "finished_at": None,
        }.items()
    )
    seen: list[Any] = []

    def body(task: TenantTask) -> None:
        with schema_context("public"):
            seen.append(get(client, job_id))
        task.retry(exc=ValueError("not yet"), countdown=60)

    bodies(body)
    run_jobs()
    assert (seen[0]["state"], seen[0]["attempts"]) == ("started", 1)
    later = get(client, job_id)
    assert (later["state"], later["attempts"], later["error"]) == ("retry", 1, "ValueError: not yet")


def test_a_success(client: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: {"answer": [42]})
    job_id = dispatch(acme)
    run_jobs()
    job = get(client, job_id)
    assert (job["state"], job["result"], job["error"], job["attempts"]) == ("success", {"answer": [42]}, None, 1)
    assert job["finished_at"]


def test_a_death(client: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = die(acme, run_jobs)
    job = get(client, job_id)
    assert (job["state"], job["result"], job["error"]) == ("dead", None, "ValueError: no such luck")


def die(tenant: Tenant, run_jobs: RunJobs) -> str:
    def body(task: TenantTask) -> None:
        raise ValueError("no such luck")

    bodies(body)
    job_id = dispatch(tenant)
    run_jobs()
    return job_id


def test_a_failure_whose_row_was_discarded(client: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = die(acme, run_jobs)
    Job.objects.all().delete()
    job = get(client, job_id)
    assert (job["state"], job["error"]) == ("failure", "ValueError: no such luck")


def test_a_job_that_expired(client: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = dispatch(acme, expires=0)
    run_jobs()
    assert get(client, job_id).items() >= {"state": "revoked", "error": "expired"}.items()


def test_a_job_that_was_ignored(client: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        raise Ignore("nothing to do")

    bodies(body)
    job_id = dispatch(acme)
    run_jobs()
    job = get(client, job_id)
    assert (job["state"], job["result"]) == ("ignored", None)


def test_tracebacks_are_for_the_admin(client: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = die(acme, run_jobs)
    assert "no such luck" in Job.objects.get().traceback
    # A flag in a tenant's table makes nobody the platform's staff.
    for each in (client, client_of(acme, add_user(acme, "sid", "owner", is_staff=True))):
        assert get(each, job_id)["traceback"] is None


def test_another_tenants_job_is_not_found(client: APIClient, globex: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: None)
    theirs, platform = dispatch(globex), atomic.delay_on_commit()
    for _ in ("under way", "ended"):
        for job_id in (theirs, platform, str(uuid.uuid4())):
            assert client.get(f"/api/v1/jobs/{job_id}/").status_code == 404
        run_jobs()


def test_a_stranger_is_not_answered(client_for: Callable[[Tenant], APIClient], acme: Tenant) -> None:
    assert client_for(acme).get(f"/api/v1/jobs/{dispatch(acme)}/").status_code == 401


def test_a_job_of_a_tenant_that_was_suspended_and_resumed_can_be_read_before_the_relay_looks(
    client: APIClient, acme: Tenant
) -> None:
    job_id = dispatch(acme)
    suspend_tenant(acme)
    line.mark(10)
    resume_tenant(acme)
    assert get(client, job_id)["state"] == "pending"
