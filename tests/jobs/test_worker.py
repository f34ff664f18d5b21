"""What a worker's parent process does for its children."""

import faulthandler
import os
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from billiard.context import Process
from celery import current_app
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.signals import task_failure
from django_celery_results.models import TaskResult
from django_tenants.utils import schema_context

from jobs.claim import claim
from jobs.models import Job
from jobs.worker.parent import in_bounded_transaction
from jobs.worker.process import TenantWorker
from jobs.worker.request import TenantRequest
from tenants.connection import connection
from tenants.models import Tenant
from tests.jobs.claims import dispatch
from tests.jobs.conftest import eventually
from tests.jobs.durables import atomic, message_of, result_of
from tests.jobs.probes import counts_frozen, ran


@pytest.fixture
def child() -> Iterator[Process]:
    """A process of this one's, as a pool starts them."""
    process = Process(target=time.sleep, args=(60,))
    process.start()
    yield process
    kill(process)


def kill(process: Process) -> None:
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def received(job_id: str) -> TenantRequest:
    """The job's message, as a worker takes it from the queue; its child has claimed the job."""
    with current_app.connection_for_read() as broker:
        with current_app.producer_pool.acquire() as producer:
            current_app.send_job(message_of(job_id), producer=producer)
        queue = broker.SimpleQueue(current_app.amqp.queues["jobs"])
        message = queue.get(timeout=5)
        message.ack()
        queue.close()
    request = TenantRequest(message, app=current_app, task=atomic)
    assert claim(job_id, task=atomic.name, token=request._request_dict["lease_token"], hard_limit=30)
    return request


def test_a_database_that_is_away_raises_nothing_into_the_workers_loop(
    committed_db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection.close()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "PORT", "1")
        in_bounded_transaction(lambda: pytest.fail("done, without a database"), action="defer", job_id="one")
    assert "Could not defer job one" in caplog.text


@pytest.fixture
def failures() -> Iterator[list[str]]:
    """The ids of tasks of which this process says to their receivers that they failed."""
    told: list[str] = []

    def receive(task_id: str, **_: Any) -> None:
        told.append(task_id)

    task_failure.connect(receive)
    yield told
    task_failure.disconnect(receive)


def test_a_hard_limit_is_the_death_of_a_job_whose_child_lives(
    acme: Tenant, child: Process, failures: list[str]
) -> None:
    request = received(dispatch(acme))
    request.on_accepted(child.pid, time.monotonic())
    request.on_timeout(soft=False, timeout=30)
    assert Job.objects.get().state == Job.State.DEAD
    assert result_of(acme.schema_name, request.id).status == "FAILURE"
    assert failures == [request.id]


def test_a_child_that_was_killed_has_reached_no_hard_limit(acme: Tenant, child: Process, failures: list[str]) -> None:
    """The pool may see that seconds late, while the clock of its job runs on."""
    request = received(dispatch(acme))
    request.on_accepted(child.pid, time.monotonic())
    kill(child)
    request.on_timeout(soft=False, timeout=30)
    job = Job.objects.get()
    assert (job.state, job.token, job.kills) == (Job.State.WAITING, None, 1)
    with schema_context(acme.schema_name):
        assert not TaskResult.objects.exists()
    assert (failures, request.acknowledged) == ([], True)


def test_a_hard_limit_of_a_job_that_others_have_taken_over_is_nobodys_failure(
    acme: Tenant, child: Process, failures: list[str]
) -> None:
    request = received(dispatch(acme))
    request.on_accepted(child.pid, time.monotonic())
    Job.objects.update(token=uuid.uuid4())
    request.on_timeout(soft=False, timeout=30)
    assert Job.objects.get().state == Job.State.WAITING
    assert (failures, request.acknowledged) == ([], True)


@pytest.mark.usefixtures("committed_db")
def test_a_hard_limit_that_can_not_be_recorded_is_no_failure_yet(
    acme: Tenant, child: Process, failures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = received(dispatch(acme))
    request.on_accepted(child.pid, time.monotonic())
    connection.close()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "PORT", "1")
        request.on_timeout(soft=False, timeout=30)
    assert Job.objects.get().state == Job.State.WAITING
    assert (failures, request.acknowledged) == ([], True)


@pytest.mark.usefixtures("one_child")
def test_a_child_shares_what_its_main_process_has_loaded(acme: Tenant) -> None:
    """No collection of its garbage writes to that, which would give it a copy of its own."""
    with schema_context(acme.schema_name):
        counts_frozen.delay("a task")

    eventually(ran, "it ran")
    [note] = ran()
    assert note["frozen"] > 10_000


def test_a_worker_that_stops_before_its_pool_has_started_waits_for_nobody() -> None:
    worker = object.__new__(TenantWorker)
    worker.app, worker.pool = current_app, PreforkPool(1)
    try:
        worker.wait_for_soft_shutdown()
    finally:
        faulthandler.cancel_dump_traceback_later()  # its last resort
