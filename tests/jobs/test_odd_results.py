"""A result that can't be shown ends its job with the reason, and whatever a row has, its job can be read."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from celery import states
from celery.exceptions import Ignore
from django.contrib.auth.models import Group
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from jobs.models import Job
from jobs.task import TenantTask
from tenants.models import Tenant
from tests.jobs.claims import change, dispatch
from tests.jobs.deaths import INF, JOB_ID, NAN, dead, member_of, raising
from tests.jobs.durables import atomic, bodies, open

RunJobs = Callable[..., int]


# Results

RESULTS: dict[str, Any] = {
    "NaN": NAN,
    "infinity": {"in": [INF]},
    "a lone surrogate": "\ud800",
    "a lone surrogate as a key": {"in": {"a\udfff": 1}},
    "two that do not match": "\udc00\ud800",
    "a number of 5,000 digits": 10**5000,
    "a number as a key": {1: 1},
    "a set": {1},
    "a Decimal": Decimal(1),
    "10,000 levels": None,  # made in the test
    "a million characters": "x" * 1_000_000,
    "an exception": ValueError("returned"),
}


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("task", [atomic, open], ids=["atomic", "open"])
@pytest.mark.parametrize("case", RESULTS)
def test_a_result_that_cannot_be_shown_makes_it_dead_with_the_reason(
    acme: Tenant, run_jobs: RunJobs, case: str, task: TenantTask
) -> None:
    result = deep(10_000) if case == "10,000 levels" else RESULTS[case]
    job = dead(acme, lambda task: result, run_jobs, task=task)
    assert job.error.startswith("TypeError: A durable job's result must be ")
    answer = member_of(acme).get(f"/api/v1/jobs/{job.id}/")
    assert (answer.status_code, answer.json()["error"]) == (200, job.error)


def test_so_does_one_that_a_completion_names(acme: Tenant, run_jobs: RunJobs) -> None:
    def body(task: TenantTask) -> None:
        with task.completion() as done:
            Group.objects.create(name="effect")
            done.result = NAN

    dead(acme, body, run_jobs, task=open)
    with schema_context(acme.schema_name):
        assert not Group.objects.exists()


@pytest.mark.parametrize(
    "result", ["a\0b", "\U0001f600", "\\ud800", {"__type__": "x", "__value__": 1}, deep(99), 2**80], ids=repr
)
def test_a_result_that_can_be_shown_is_shown_as_it_is(acme: Tenant, run_jobs: RunJobs, result: Any) -> None:
    bodies(lambda task: result)
    job_id = dispatch(acme)
    run_jobs()
    assert member_of(acme).get(f"/api/v1/jobs/{job_id}/").json()["result"] == result


# Results of plain tasks, and rows that somebody has changed

STORED = [
    "NaN",
    '{"a": [Infinity]}',
    '"\\ud800"',
    '{"\\udfff": 1}',
    "[",
    "",
    "9" * 5000,
    "[" * 5000 + "]" * 5000,
    "null",
    "5",
    "1e999",
    '{"attempts": "x", "error": ["\\ud800"]}',
]


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "REVOKED", "PROGRESS", "odd"])
@pytest.mark.parametrize("text", STORED, ids=lambda text: text[:20])
def test_whatever_a_result_row_has_its_job_can_be_read(acme: Tenant, status: str, text: str) -> None:
    with schema_context(acme.schema_name):
        TaskResult.objects.create(task_id=JOB_ID, status=status, result=text, meta=text, task_name=None)
    answer = member_of(acme).get(f"/api/v1/jobs/{JOB_ID}/")
    assert answer.status_code == 200
    assert answer.json()["state"] == (status.lower() if status in states.READY_STATES else "started")


# When


def test_when_a_job_was_created_does_not_change(acme: Tenant, run_jobs: RunJobs) -> None:
    bodies(lambda task: None)
    job_id = dispatch(acme)
    change(job_id, "created_at = '2026-01-01T00:00:00+00:00'")
    client = member_of(acme)
    before = client.get(f"/api/v1/jobs/{job_id}/").json()["created_at"]
    run_jobs()
    after = client.get(f"/api/v1/jobs/{job_id}/").json()
    assert (before, after["state"]) == (after["created_at"], "success")
    assert after["finished_at"] > before


@pytest.mark.parametrize("end", ["dies", "expires", "is ignored", "is cancelled"])
def test_nor_does_it_however_the_job_ends(acme: Tenant, run_jobs: RunJobs, end: str) -> None:
    bodies(raising(Ignore() if end == "is ignored" else ValueError()))
    job_id = dispatch(acme)
    expires = ", expires_at = now()" if end == "expires" else ""
    change(job_id, f"created_at = '2026-01-01T00:00:00+00:00'{expires}")
    client = member_of(acme, "owner")
    before = client.get(f"/api/v1/jobs/{job_id}/").json()["created_at"]
    if end == "is cancelled":
        assert client.post(f"/api/v1/jobs/{job_id}/cancellation/").status_code == 202
    run_jobs()
    Job.objects.all().delete()
    after = client.get(f"/api/v1/jobs/{job_id}/").json()
    assert (before, bool(after["finished_at"])) == (after["created_at"], True)
