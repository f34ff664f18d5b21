"""Rows that this release did not write: of the release before, or changed by somebody. Each ends, and stops nobody."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client

from jobs.models import Job
from jobs.relay import maintenance
from tenants.models import Tenant
from tests.jobs.claims import VANISHED, change, dispatch
from tests.jobs.durables import atomic, bodies, result_of, sql
from tests.people import add_staff, add_user, client_of, client_of_staff

RunJobs = Callable[..., int]


def received(run_jobs: RunJobs) -> list[tuple[Any, ...]]:
    """What the bodies of all jobs were called with."""
    calls: list[tuple[Any, ...]] = []
    bodies(lambda task, *args, **kwargs: calls.append((*args, kwargs)))
    run_jobs()
    return calls


# Rows of the release before

UUID_OF_CELERY = '{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000007"}}'
TIME_OF_CELERY = '{"__type__": "datetime", "__value__": "2990-01-01T12:00:00+00:00"}'


def test_a_row_of_the_release_before_is_read_as_it_was_written(acme: Tenant, run_jobs: RunJobs) -> None:
    change(dispatch(acme), f"codec = 0, args = '[{UUID_OF_CELERY}]', kwargs = '{{\"at\": {TIME_OF_CELERY}}}'")
    assert received(run_jobs) == [(uuid.UUID(int=7), {"at": datetime(2990, 1, 1, 12, tzinfo=UTC)})]


def test_so_are_its_links(acme: Tenant, run_jobs: RunJobs) -> None:
    link = (
        f'[{{"task": "{atomic.name}", "args": [{UUID_OF_CELERY}], "kwargs": {{}}, "immutable": true,'
        f' "subtask_type": null, "options": {{"eta": {TIME_OF_CELERY}}}}}]'
    )
    job_id = dispatch(acme)
    sql("UPDATE public.jobs_job SET codec = 0, link = %s WHERE id = %s", link, job_id)
    assert received(run_jobs) == [({},)]
    linked = Job.objects.get()
    assert linked.due_at == datetime(2990, 1, 1, 12, tzinfo=UTC)

    change(str(linked.id), "due_at = now(), next_send_at = now()")
    assert received(run_jobs) == [(uuid.UUID(int=7), {})]


def test_new_rows_say_that_they_are_plain(acme: Tenant) -> None:
    dispatch(acme)
    atomic.map_on_commit([()])
    atomic.for_each_tenant_on_commit()
    assert set(Job.objects.values_list("codec", flat=True)) == {Job.Codec.PLAIN}


# Rows that somebody has changed

SPOILT = {
    "no JSON": "args = '['",
    "no text": "args = ''",
    "not a list": "args = '5'",
    "text for a list": """args = '"abc"'""",
    "pairs for a dict": """kwargs = '[["a", 1]]'""",
    "kwargs that are a list": "kwargs = '[1]'",
    "a type that Celery does not know": """codec = 0, args = '[{"__type__": "x", "__value__": 1}]'""",
    "a UUID that is none": """codec = 0, kwargs = '{"a": {"__type__": "uuid", "__value__": 1}}'""",
    "a codec of a later release": "codec = 7",
    "a link that is no JSON": "link = '{'",
    "a link that is a number": "link = '[5]'",
    "a link to nothing": "link = '[{}]'",
    "a link to a queue": """link = '[{"task": "a", "args": [], "kwargs": {}, "options": {"queue": "x"}}]'""",
    "too deep": f"args = '{'[' * 5000}{']' * 5000}'",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_row_that_cannot_be_read_ends_as_dead_with_the_reason(acme: Tenant, run_jobs: RunJobs, spoil: str) -> None:
    job_id = dispatch(acme)
    healthy = dispatch(acme)
    change(job_id, SPOILT[spoil])
    bodies(lambda task, *args, **kwargs: None)
    run_jobs()
    job = Job.objects.get()
    assert (str(job.id), job.state, job.token) == (job_id, "dead", None)
    assert job.error
    assert result_of(acme.schema_name, job_id).status == "FAILURE"
    assert result_of(acme.schema_name, healthy).status == "SUCCESS"


NUL_IN_SCHEMA = f'[{{"task": "{atomic.name}", "args": [], "kwargs": {{}}, "options": {{"tenant_schema": "\\u0000"}}}}]'


@pytest.mark.parametrize("link", ["{", "[5]", "[{}]", "5", '[{"task": "celery.ping"}]', NUL_IN_SCHEMA])
def test_an_errback_that_cannot_be_read_keeps_no_job_from_its_death(acme: Tenant, run_jobs: RunJobs, link: str) -> None:
    job_id = dispatch(acme)
    change(job_id, f"link_error = '{link}'")
    bodies(lambda task: 1 / 0)
    run_jobs()
    assert Job.objects.get().error == "ZeroDivisionError: division by zero"
    assert result_of(acme.schema_name, job_id).status == "FAILURE"


def expired(job_id: str) -> None:
    change(job_id, "expires_at = clock_timestamp()")


def poisoned(job_id: str) -> None:
    change(job_id, f"{VANISHED}, kills = 100")


@pytest.mark.parametrize(("end", "status"), [(expired, "REVOKED"), (poisoned, "FAILURE")])
@pytest.mark.parametrize("spoil", SPOILT)
def test_a_sweep_ends_a_row_that_cannot_be_read_and_those_after_it(
    acme: Tenant, spoil: str, end: Callable[[str], None], status: str
) -> None:
    jobs = [dispatch(acme), dispatch(acme)]
    change(jobs[0], SPOILT[spoil])
    for job_id in jobs:
        end(job_id)
    maintenance.run_maintenance()
    assert [result_of(acme.schema_name, job_id).status for job_id in jobs] == [status, status]


@pytest.fixture
def staff(db: None) -> Client:
    """Staff of the platform, in the admin."""
    return client_of_staff(add_staff())


@pytest.mark.parametrize("spoil", SPOILT)
def test_people_see_and_change_a_row_that_cannot_be_read(acme: Tenant, staff: Client, spoil: str) -> None:
    job_id = dispatch(acme)
    change(job_id, SPOILT[spoil])
    owner = client_of(acme, add_user(acme, "olive", "owner"))
    assert owner.get("/api/v1/jobs/").json()["results"][0]["id"] == job_id
    assert owner.get(f"/api/v1/jobs/{job_id}/").json()["state"] == "pending"
    for page in ("", f"{job_id}/change/"):
        assert job_id in staff.get(f"/admin/jobs/job/{page}").content.decode()
    for command in (["list", "--state", "waiting"], ["show", job_id]):
        out = StringIO()
        call_command("jobs", *command, stdout=out)
        assert job_id in out.getvalue()

    change(job_id, "state = 'dead', tag = NULL, died_at = now()")
    call_command("jobs", "retry", job_id, stdout=StringIO())
    chosen = {"action": "cancel", "_selected_action": [job_id]}
    assert "1 of 1 jobs cancelled" in staff.post("/admin/jobs/job/", chosen, follow=True).content.decode()
    assert owner.get(f"/api/v1/jobs/{job_id}/").json()["error"] == "cancelled"


SENSELESS = [
    *(f"{column} = 'infinity'" for column in ("created_at", "due_at", "expires_at", "next_send_at")),
    *(f"sends = {count}" for count in (-1, 2**31 - 1)),
    f"tag = {2**63 - 1}",
    "tag = -1",
    "state = 'zombie'",
]


@pytest.mark.parametrize("assignment", SENSELESS)
def test_what_would_stop_others_is_in_no_row(acme: Tenant, assignment: str) -> None:
    job_id = dispatch(acme)
    with pytest.raises(IntegrityError, match="violates check constraint"), transaction.atomic():
        change(job_id, assignment)
