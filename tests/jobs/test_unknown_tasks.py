"""A job whose task no worker knows says so at once, runs if the task comes back, and is dead after a day."""

from collections.abc import Callable

import pytest
from celery import current_app
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs import endings
from jobs.models import Job
from jobs.relay import line, maintenance
from tenants.models import Tenant
from tests.jobs.claims import change, claim, dispatch, held
from tests.jobs.conftest import ended, eventually
from tests.jobs.durables import groups, mark, message_of, result_of, sql

LONG_AGO = "unknown_since = clock_timestamp() - interval '25 hours'"


def test_a_worker_that_does_not_know_it_says_so_at_once_and_one_that_does_runs_it(
    start_worker: Callable[..., Process], acme: Tenant
) -> None:
    with schema_context(acme.schema_name):
        job_id = mark.delay_on_commit("renamed")
    change(job_id, "task = 'shop.tasks.renamed'")
    ignorant = start_worker()
    with current_app.connection_for_write() as broker:
        current_app.send_job(message_of(job_id), producer=current_app.amqp.Producer(broker.channel()))
    eventually(lambda: Job.objects.get().unknown_since is not None, "it says so")
    job = Job.objects.get()
    assert (job.state, job.attempt, job.error) == ("waiting", 0, "A worker did not know the task shop.tasks.renamed.")
    assert ignorant.running

    change(job_id, f"task = '{mark.name}', tag = NULL, next_send_at = clock_timestamp()")
    line.wake()
    [due] = line.mark(10)
    with current_app.connection_for_write() as broker:
        current_app.send_job(due, producer=current_app.amqp.Producer(broker.channel()))
    eventually(lambda: ended(job_id), "it ended")
    assert groups(acme.schema_name) == ["renamed"]


def test_it_is_sent_again_soon_however_often_nobody_knew_it(acme: Tenant) -> None:
    job_id = dispatch(acme)
    since = set()
    for _ in range(5):
        change(job_id, "next_send_at = clock_timestamp()")
        line.wake()
        assert [str(due.id) for due in line.mark(10)] == [job_id]
        assert endings.mark_unknown(job_id, reason="unknown")
        since.add(Job.objects.get().unknown_since)
        [[seconds]] = sql("SELECT extract(epoch FROM next_send_at - clock_timestamp())::float FROM public.jobs_job")
        assert 5 < seconds <= 10
    assert len(since) == 1


def test_after_a_day_it_is_dead_with_the_reason(acme: Tenant) -> None:
    job_id = dispatch(acme)
    endings.mark_unknown(job_id, reason="unknown")
    maintenance.run_maintenance()
    assert Job.objects.get().state == "waiting"

    change(job_id, LONG_AGO)
    maintenance.run_maintenance()
    job = Job.objects.get()
    assert (job.state, job.error) == ("dead", "UnknownTask: No worker has known its task for 24 hours.")
    assert result_of(acme.schema_name, job_id).status == "FAILURE"


def test_a_claim_makes_it_known_again(acme: Tenant) -> None:
    job_id = dispatch(acme)
    change(job_id, LONG_AGO)
    held(job_id)
    change(job_id, "lease_until = clock_timestamp()")
    maintenance.run_maintenance()
    assert (Job.objects.get().state, Job.objects.get().unknown_since) == ("waiting", None)


def test_one_that_runs_elsewhere_is_left_alone(acme: Tenant) -> None:
    job_id = dispatch(acme)
    held(job_id)
    assert not endings.mark_unknown(job_id, reason="unknown")


@pytest.mark.parametrize("column", ["unknown_since", "expires_at", "deadline"])
def test_a_replay_starts_anew(acme: Tenant, column: str) -> None:
    job_id = dispatch(acme)
    change(job_id, f"state = 'dead', tag = NULL, attempt = 3, transients = 4, snoozes = 5, {column} = '2000-01-01'")
    assert endings.replay(Job.objects.get())
    maintenance.run_maintenance()
    job = Job.objects.get()
    assert (job.state, job.attempt, job.transients, job.snoozes) == ("waiting", 0, 0, 0)
    assert getattr(job, column) is None
    assert claim(job_id)
