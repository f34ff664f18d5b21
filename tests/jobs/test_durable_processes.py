"""Durable jobs with a real relay and a real worker, whose processes die."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.models import Job
from jobs.task import TenantTask
from tenants.models import Tenant
from tenants.services import resume_tenant, suspend_tenant
from tests.jobs import probes
from tests.jobs.conftest import ended, eventually, results_of, worker_and_relay
from tests.jobs.durables import (
    dies_once,
    groups,
    hangs,
    lingers,
    mark,
    message_of,
    queue_length,
    raises_oddly,
    result_of,
    retries_once,
    sql,
)

# Long leases: what is quick here was handed back at once. Remote control: to revoke.
ENVIRON = {"JOB_LEASE_MARGIN": "60", "JOB_FIRST_RESEND": "2", "WORKER_REMOTE_CONTROL": "1"}


@pytest.fixture(scope="module")
def processes(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A relay, and a worker with two children, for all tests of this module."""
    with worker_and_relay(tmp_path_factory.mktemp("processes"), "-c", "2", **ENVIRON) as worker:
        yield worker


@pytest.fixture
def worker(processes: Process, committed_db: None) -> Process:
    assert processes.running
    return processes


def dispatch(tenant: Tenant, task: TenantTask, *args: Any, **options: Any) -> str:
    with schema_context(tenant.schema_name):
        job_id: str = task.apply_async_on_commit(args, **options)
    return job_id


def runs(name: str) -> int:
    return len([run for run in probes.ran() if run["name"] == name])


@pytest.mark.parametrize("error", ["OSError", "Unprinted", "SyntaxError", "ValueError"])
def test_whatever_a_body_raises_its_child_goes_on(worker: Process, acme: Tenant, error: str) -> None:
    jobs = [dispatch(acme, raises_oddly, f"{error} {number}", error) for number in range(4)]
    eventually(lambda: Job.objects.filter(state=Job.State.DEAD).count() == len(jobs), "all dead")
    assert all(job.error.startswith(f"{error}: ") and len(job.error) < 10_000 for job in Job.objects.all())
    pids = [run["pid"] for run in probes.ran() if run["name"].startswith(error)]
    assert len(pids) >= len(jobs)
    assert len(set(pids)) <= 2  # the worker's children


def test_a_job_runs_once_at_home_and_leaves_its_result(worker: Process, acme: Tenant, globex: Tenant) -> None:
    ids = [dispatch(tenant, mark, tenant.slug) for tenant in (acme, globex)]
    eventually(lambda: not Job.objects.exists(), "both ended")
    for tenant, job_id in zip((acme, globex), ids, strict=True):
        assert groups(tenant.schema_name) == [tenant.slug]
        assert results_of(job_id) == {tenant.schema_name: "SUCCESS"}
        assert runs(tenant.slug) == 1


@pytest.mark.parametrize("fatality", ["kill -9", "SystemExit", "connection lost"])
def test_a_child_that_dies_under_a_job_hands_it_back_at_once(worker: Process, acme: Tenant, fatality: str) -> None:
    job_id = dispatch(acme, dies_once, fatality, fatality)
    eventually(lambda: ended(job_id), "the second attempt")
    assert results_of(job_id) == {acme.schema_name: "SUCCESS"}
    assert '"attempts": 2' in result_of(acme.schema_name, job_id).meta
    assert groups(acme.schema_name) == [fatality]
    assert runs(fatality) == 2


def test_a_hard_limit_is_the_death_of_a_job(worker: Process, acme: Tenant) -> None:
    job_id = dispatch(acme, hangs, "hard", time_limit=1)
    eventually(lambda: ended(job_id), "the parent's word")
    job = Job.objects.get()
    assert (job.state, job.error) == ("dead", "TimeLimitExceeded: TimeLimitExceeded(1.0,)")
    assert results_of(job_id) == {acme.schema_name: "FAILURE"}
    assert (runs("hard"), groups(acme.schema_name)) == (1, [])


def test_a_soft_limit_is_an_exception_of_the_body(worker: Process, acme: Tenant) -> None:
    job_id = dispatch(acme, lingers, "soft", 60, soft_time_limit=1)
    eventually(lambda: ended(job_id), "its end")
    job = Job.objects.get()
    assert (job.state, job.error) == ("dead", "SoftTimeLimitExceeded: SoftTimeLimitExceeded()")
    assert "time.sleep" in job.traceback


def test_a_retry_waits_in_its_row_and_not_in_the_broker(worker: Process, acme: Tenant) -> None:
    job_id = dispatch(acme, retries_once, "again")
    eventually(lambda: runs("again") == 1 and Job.objects.filter(token=None, retries=1).exists(), "its first try")
    job = Job.objects.get()
    assert queue_length() == 0
    assert groups(acme.schema_name) == []
    eventually(lambda: ended(job_id), "its second try")
    assert groups(acme.schema_name) == ["again"]
    assert result_of(acme.schema_name, job_id).date_done >= job.due_at


def test_messages_that_come_twice_run_it_once(worker: Process, acme: Tenant) -> None:
    job_id = dispatch(acme, lingers, "twice", 1)
    for _ in range(3):
        publish(job_id)
    eventually(lambda: ended(job_id), "its end")
    mark_end(acme)
    assert (runs("twice"), groups(acme.schema_name)) == (1, ["end", "twice"])


def publish(job_id: str) -> None:
    with current_app.producer_pool.acquire() as producer:
        current_app.send_job(message_of(job_id), producer=producer)


def mark_end(tenant: Tenant) -> None:
    """Whatever was sent before this has been received when it returns."""
    job_id = dispatch(tenant, mark, "end")
    eventually(lambda: ended(job_id), "the job after it")


def test_a_message_that_comes_early_runs_nothing(worker: Process, acme: Tenant) -> None:
    job_id = dispatch(acme, mark, "early", countdown=600)
    publish(job_id)
    mark_end(acme)
    assert (runs("early"), Job.objects.get().attempt) == (0, 0)


def test_a_job_whose_task_no_worker_knows_waits(worker: Process, acme: Tenant) -> None:
    with schema_context(acme.schema_name):
        job_id = mark.apply_async_on_commit(("unknown",), countdown=600)
    sql("UPDATE public.jobs_job SET task = 'elsewhere.task', due_at = now(), next_send_at = now()")
    worker.wait_for(f"durable job {job_id} waits")
    mark_end(acme)
    assert (Job.objects.get().state, Job.objects.get().attempt) == ("waiting", 0)
    assert results_of(job_id) == {}


def test_a_suspended_tenants_job_runs_after_it_is_resumed(worker: Process, acme: Tenant, globex: Tenant) -> None:
    suspend_tenant(acme)
    job_id = dispatch(acme, mark, "suspended")
    publish(job_id)
    mark_end(globex)
    assert runs("suspended") == 0
    resume_tenant(acme)
    eventually(lambda: ended(job_id), "its end")
    assert groups(acme.schema_name) == ["suspended"]


def test_a_job_that_is_revoked_before_it_begins_never_runs(worker: Process, acme: Tenant) -> None:
    job_id = dispatch(acme, mark, "revoked", countdown=600)
    assert current_app.control.revoke(job_id, reply=True, timeout=5, limit=1)
    sql("UPDATE public.jobs_job SET due_at = now(), next_send_at = now()")
    eventually(lambda: ended(job_id), "its end")
    assert results_of(job_id) == {acme.schema_name: "REVOKED"}
    assert (runs("revoked"), Job.objects.count()) == (0, 0)


def test_a_running_job_that_is_terminated_never_runs_again(worker: Process, acme: Tenant) -> None:
    job_id = dispatch(acme, lingers, "terminated", 60)
    eventually(lambda: runs("terminated") == 1, "its start")
    current_app.control.revoke(job_id, terminate=True, signal="SIGKILL", reply=True, timeout=5, limit=1)
    eventually(lambda: ended(job_id), "its end")
    mark_end(acme)
    assert results_of(job_id) == {acme.schema_name: "REVOKED"}
    assert (runs("terminated"), Job.objects.count()) == (1, 0)
