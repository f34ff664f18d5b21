"""The fixture `run_jobs`, as the tests of an application use it: within the transaction around each test."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django_tenants.utils import schema_context

from jobs.models import Job
from jobs.task import TenantTask
from tenants.models import Tenant
from tests.jobs.durables import atomic, bodies, groups, open, queue_length, result_of, sql, stubborn

RunJobs = Callable[..., int]


def test_it_runs_what_is_due_and_says_how_many(acme: Tenant, globex: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task, name: Group.objects.create(name=name).name)
    with transaction.atomic():
        for tenant in (acme, globex):
            with schema_context(tenant.schema_name):
                atomic.delay_on_commit(tenant.slug)
                atomic.apply_async_on_commit(("later",), countdown=60)
    assert run_jobs() == 2
    assert (groups(acme.schema_name), groups(globex.schema_name)) == (["acme"], ["globex"])
    assert Job.objects.count() == 2
    assert queue_length() == 0


def test_it_runs_what_jobs_dispatch(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task, left: atomic.delay_on_commit(left - 1) if left else None)
    with schema_context(acme.schema_name):
        atomic.delay_on_commit(3)
    assert run_jobs() == 4


@pytest.mark.parametrize("task", [atomic, open], ids=["atomic", "open"])
def test_ahead_of_time_it_runs_retries_to_their_end(acme: Tenant, task: TenantTask, run_jobs: RunJobs) -> None:
    bodies(lambda task: task.request.retries if task.request.retries == 2 else task.retry(countdown=3600))
    with schema_context(acme.schema_name):
        job_id = task.delay_on_commit()
    assert run_jobs() == 1
    assert run_jobs(ahead=True) == 2
    assert result_of(acme.schema_name, job_id).result == "2"


def test_a_body_that_fails_leaves_the_test_its_transaction(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        Group.objects.create(name="body's")
        sql("SELECT 1 / 0")

    bodies(body)
    with schema_context(acme.schema_name):
        Group.objects.create(name="test's")
        atomic.delay_on_commit()
        stubborn.delay_on_commit()
    assert run_jobs(ahead=True) == 2
    assert groups(acme.schema_name) == ["test's"]
    assert set(Job.objects.values_list("state", flat=True)) == {"dead"}


def test_it_stops_at_its_limit(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: atomic.delay_on_commit())
    with schema_context(acme.schema_name):
        atomic.delay_on_commit()
    assert run_jobs(limit=5) == 5


def test_within_a_transaction_of_the_test_there_is_nothing_to_run_yet(acme: Tenant, run_jobs: RunJobs) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="outside of atomic"):
        run_jobs()
