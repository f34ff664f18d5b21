"""What people do to jobs: run dead ones again, discard them, cancel what has not begun; by API and command line."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context
from rest_framework.test import APIClient

from jobs.models import Job
from jobs.relay.maintenance import run_maintenance
from tenants.models import Tenant
from tests.jobs.durables import atomic, bodies, result_of
from tests.people import add_user, client_of

RunJobs = Callable[..., int]


@pytest.fixture
def owner(acme: Tenant) -> APIClient:
    return client_of(acme, add_user(acme, "ada", "owner"))


@pytest.fixture
def dead(acme: Tenant, run_jobs: RunJobs) -> str:
    """A job of acme that has died."""

    @bodies
    def fail(*_: object) -> None:
        raise ValueError("no such luck")

    job_id = dispatch(acme)
    run_jobs()
    assert Job.objects.get(pk=job_id).state == Job.State.DEAD
    return job_id


def dispatch(tenant: Tenant, **options: object) -> str:
    with schema_context(tenant.schema_name):
        return str(atomic.apply_async_on_commit((), **options))


def url(job_id: str, verb: str = "") -> str:
    return f"/api/v1/jobs/{job_id}/" + (f"{verb}/" if verb else "")


def test_the_owner_lists_dead_jobs_of_this_tenant_alone(
    owner: APIClient, dead: str, globex: Tenant, run_jobs: RunJobs
) -> None:
    dispatch(globex)
    run_jobs()
    [job] = owner.get("/api/v1/jobs/?state=dead").json()["results"]
    assert (job["id"], job["state"], job["error"]) == (dead, "dead", "ValueError: no such luck")
    assert owner.get("/api/v1/jobs/?state=pending").json()["results"] == []
    assert owner.get("/api/v1/jobs/?state=lost").status_code == 400


def test_the_owner_lists_what_has_ended_by_its_state(
    owner: APIClient, acme: Tenant, globex: Tenant, dead: str, run_jobs: RunJobs
) -> None:
    bodies(lambda *_: "well")
    first, _, second = (dispatch(tenant) for tenant in (acme, globex, acme))
    revoked = dispatch(acme, expires=0)
    with schema_context(acme.schema_name):
        TaskResult.objects.create(task_id="no-uuid", status="SUCCESS")
    run_jobs()

    def ids(query: str) -> list[str]:
        return [job["id"] for job in owner.get(f"/api/v1/jobs/{query}").json()["results"]]

    assert ids("?state=success") == [second, first]
    assert ids(f"?state=success&task={atomic.name}") == [second, first]
    assert ids("?state=success&task=other") == []
    assert ids("?state=revoked") == [revoked]
    assert ids("?state=ignored") == []
    assert ids("") == [dead]
    page = owner.get("/api/v1/jobs/?state=success&page_size=1").json()
    assert page["results"] == [owner.get(url(second)).json()]
    assert owner.get(page["next"]).json()["results"] == [owner.get(url(first)).json()]


def test_a_dead_job_has_failed_once_it_is_discarded(owner: APIClient, dead: str) -> None:
    assert owner.get("/api/v1/jobs/?state=failure").json()["results"] == []
    Job.objects.all().delete()
    [failed] = owner.get("/api/v1/jobs/?state=failure").json()["results"]
    assert (failed["id"], failed["state"]) == (dead, "failure")


def test_a_list_of_jobs_is_not_kept_in_step(owner: APIClient) -> None:
    assert set(owner.get("/api/v1/jobs/").json()) == {"next", "previous", "results"}


def test_a_dead_job_runs_again_and_its_failure_goes(
    owner: APIClient, acme: Tenant, dead: str, run_jobs: RunJobs
) -> None:
    answer = owner.post(url(dead, "retry"))
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    assert answer["Location"] == f"http://acme.localhost{url(dead)}"
    with schema_context(acme.schema_name):
        assert not TaskResult.objects.exists()

    @bodies
    def succeed(*_: object) -> str:
        return "better"

    run_jobs()
    assert owner.get(url(dead)).json()["result"] == "better"
    assert owner.post(url(dead, "retry")).status_code == 409


def test_a_job_that_has_not_begun_is_cancelled(owner: APIClient, acme: Tenant, run_jobs: RunJobs) -> None:
    job_id = dispatch(acme, countdown=3600)
    answer = owner.post(url(job_id, "cancellation"))
    assert (answer.status_code, answer.json()["state"]) == (202, "revoked")
    assert run_jobs(ahead=True) == 0
    assert owner.post(url(job_id, "cancellation")).status_code == 409


def test_a_job_that_has_begun_is_not_cancelled(owner: APIClient, dead: str) -> None:
    assert owner.post(url(dead, "cancellation")).status_code == 409


@pytest.mark.parametrize("verb", ["retry", "cancellation"])
def test_only_owners_of_the_tenant_control_its_jobs(acme: Tenant, globex: Tenant, dead: str, verb: str) -> None:
    assert client_of(acme, add_user(acme, "alan", "admin")).post(url(dead, verb)).status_code == 403
    assert client_of(globex, add_user(globex, "gus", "owner")).post(url(dead, verb)).status_code == 404
    assert Job.objects.get(pk=dead).state == Job.State.DEAD


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("jobs", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_lists_shows_and_runs_again(dead: str, acme: Tenant) -> None:
    assert dead in command("list")
    assert "acme" in command("list", "--tenant", "acme")
    assert dead not in command("list", "--tenant", "globex")
    assert "no such luck" in command("show", dead)
    assert command("retry", "--all", "--tenant", "globex") == "retry: 0 jobs\n"
    assert command("retry", "--all") == "retry: 1 jobs\n"
    assert Job.objects.get(pk=dead).state == Job.State.WAITING
    with pytest.raises(CommandError, match="is not dead"):
        command("retry", dead)


def test_the_command_discards_and_cancels(dead: str, acme: Tenant) -> None:
    command("discard", dead)
    assert not Job.objects.exists()
    assert result_of(acme.schema_name, dead).status == "FAILURE"
    waiting = dispatch(acme)
    command("cancel", waiting)
    assert result_of(acme.schema_name, waiting).status == "REVOKED"
    with pytest.raises(CommandError, match="There is no job"):
        command("show", str(uuid.uuid4()))
    with pytest.raises(CommandError, match="Give the id"):
        command("cancel")


def test_dead_jobs_are_pruned_after_some_days(dead: str) -> None:
    Job.objects.update(died_at=timezone.now() - timedelta(days=settings.JOB_DEAD_DAYS, seconds=-60))
    run_maintenance()
    assert Job.objects.filter(pk=dead).exists()
    Job.objects.update(died_at=timezone.now() - timedelta(days=settings.JOB_DEAD_DAYS, seconds=60))
    run_maintenance()
    assert not Job.objects.exists()
