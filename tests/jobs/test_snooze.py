"""`raise self.snooze(seconds)`: the job is put off, and uses up no try."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import shared_task
from django.contrib.auth.models import Group
from django_tenants.utils import schema_context
from pytest_django import Settings

from jobs.models import Job
from jobs.task import TenantTask
from tenants.models import Tenant
from tests.jobs.durables import atomic, bodies, groups, open, result_of, sql, stubborn

RunJobs = Callable[..., int]


@shared_task(bind=True, autoretry_for=(Exception,), max_retries=0)
def eager_to_retry(self: TenantTask) -> Any:
    return bodies.current(self)


def dispatch(tenant: Tenant, task: Any, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        return str(task.apply_async_on_commit(**options))


def snoozes_at_first(task: TenantTask) -> str:
    Group.objects.create(name=f"attempt {Job.objects.get().attempt}")
    if Job.objects.get().snoozes == 0:
        raise task.snooze(60)
    return "fine"


@pytest.mark.parametrize("task", [atomic, stubborn, eager_to_retry], ids=["plain", "with retries", "retries all"])
def test_it_is_rolled_back_and_runs_later(acme: Tenant, run_jobs: RunJobs, task: TenantTask) -> None:
    bodies(snoozes_at_first)
    job_id = dispatch(acme, task)
    run_jobs()
    job = Job.objects.get()
    assert (job.state, job.snoozes, job.retries, job.token) == ("waiting", 1, 0, None)
    assert sql("SELECT due_at > now() + interval '50 s' AND next_send_at = due_at FROM public.jobs_job") == [(True,)]
    assert groups(acme.schema_name) == []

    run_jobs(ahead=True)
    assert result_of(acme.schema_name, job_id).result == '"fine"'
    assert groups(acme.schema_name) == ["attempt 2"]


def test_a_body_outside_of_transactions_keeps_what_it_wrote(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(snoozes_at_first)
    dispatch(acme, open)
    run_jobs()
    run_jobs(ahead=True)
    assert groups(acme.schema_name) == ["attempt 1", "attempt 2"]


def test_it_has_begun_so_it_does_not_expire(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(snoozes_at_first)
    job_id = dispatch(acme, atomic, expires=30)
    run_jobs()
    sql("UPDATE public.jobs_job SET expires_at = now()")
    run_jobs(ahead=True)
    assert result_of(acme.schema_name, job_id).status == "SUCCESS"


def test_who_snoozes_too_often_is_dead(acme: Tenant, run_jobs: RunJobs, settings: Settings) -> None:
    settings.JOB_MAX_SNOOZES = 2

    def body(task: TenantTask) -> None:
        raise task.snooze(0)

    bodies(body)
    dispatch(acme, atomic)
    for _ in range(3):
        run_jobs(ahead=True, limit=1)
    job = Job.objects.get()
    assert (job.state, job.snoozes, job.error) == ("dead", 2, "TooManySnoozes: It was snoozed 2 times.")


def test_who_waits_for_others_may_snooze_for_ever(acme: Tenant, run_jobs: RunJobs, settings: Settings) -> None:
    settings.JOB_MAX_SNOOZES = 2

    def body(task: TenantTask) -> None:
        raise task.snooze(0, limited=False)

    bodies(body)
    dispatch(acme, atomic)
    for _ in range(5):
        run_jobs(ahead=True, limit=1)
    assert (Job.objects.get().state, Job.objects.get().snoozes) == ("waiting", 5)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 9e11, "soon", None])
def test_a_senseless_delay_is_the_jobs_death_with_the_reason(acme: Tenant, run_jobs: RunJobs, seconds: Any) -> None:
    def body(task: TenantTask) -> None:
        raise task.snooze(seconds)

    bodies(body)
    dispatch(acme, atomic)
    run_jobs()
    job = Job.objects.get()
    assert job.state == "dead"
    assert job.error.startswith(("ValueError: ", "TypeError: "))


def test_a_plain_task_is_told_what_to_do() -> None:
    with pytest.raises(TypeError, match="retry"):
        atomic.snooze(1)


def snooze_in_the_completion(task: TenantTask) -> None:
    with task.completion():
        Group.objects.create(name="rolled back")
        raise task.snooze(60)


def snooze_before_the_call(task: TenantTask) -> None:
    with task.before_call():
        raise task.snooze(60)


@pytest.mark.parametrize("body", [snooze_in_the_completion, snooze_before_the_call])
def test_it_may_come_anywhere_in_a_body(acme: Tenant, run_jobs: RunJobs, body: Callable[[TenantTask], None]) -> None:
    bodies(body)
    dispatch(acme, open)
    run_jobs()
    assert (Job.objects.get().state, Job.objects.get().snoozes, groups(acme.schema_name)) == ("waiting", 1, [])
