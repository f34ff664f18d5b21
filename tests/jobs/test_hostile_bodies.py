"""Whatever a body does to its process, one task ends, with a reason; the worker goes on, or ends with a code."""

from collections.abc import Iterator
from typing import Any

import pytest
from django_tenants.utils import schema_context

from devstack.processes import Process
from jobs.models import Job
from tenants.models import Tenant
from tests.jobs.conftest import ended, eventually, results_of, worker_and_relay
from tests.jobs.durables import groups, result_of, writes
from tests.jobs.hostile import CUTS, FAILURES, SUCCESSES, does

INCLUDE = ["--include", "tests.jobs.hostile,tests.jobs.durables"]
DURABLE = pytest.mark.parametrize("durable", [True, False], ids=["durable job", "plain task"])


@pytest.fixture(scope="module")
def processes(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A relay, and a worker with one child, for all tests of this module."""
    folder = tmp_path_factory.mktemp("hostile")
    environ = {"JOB_FIRST_RESEND": "1", "WORKER_SHUTDOWN_SECONDS": "1"}
    with worker_and_relay(folder, "-c", "1", *INCLUDE, **environ) as worker:
        yield worker


@pytest.fixture
def worker(processes: Process, committed_db: None) -> Process:
    if not processes.running:
        processes.start()
    return processes


def send(task: Any, tenant: Tenant, *args: Any, durable: bool = True) -> str:
    with schema_context(tenant.schema_name):
        return str(task.delay_on_commit(*args) if durable else task.delay(*args).id)


def goes_on(worker: Process, pid: int, acme: Tenant) -> None:
    """In the same process, and with a child that is fit for work."""
    for durable in (True, False):
        after = send(writes, acme, f"next {durable}", durable=durable)
        eventually(lambda after=after: ended(after), "the next one ended")  # type: ignore[misc]  # no types
        assert results_of(after) == {acme.schema_name: "SUCCESS"}
    assert (worker.running, worker.pid) == (True, pid)


@DURABLE
@pytest.mark.parametrize("deed", FAILURES)
def test_a_body_fails_and_its_worker_goes_on(worker: Process, acme: Tenant, deed: str, durable: bool) -> None:
    pid, reason = worker.pid, FAILURES[deed][1]
    task_id = send(does, acme, deed, durable=durable)
    eventually(lambda: ended(task_id), "it ended")

    assert results_of(task_id) == {acme.schema_name: "FAILURE"}
    if durable:
        job = Job.objects.get(id=task_id)
        assert (job.state, job.kills) == ("dead", 0)
        assert reason in job.error
        assert groups(acme.schema_name) == []
    goes_on(worker, pid, acme)


@DURABLE
@pytest.mark.parametrize("deed", CUTS)
def test_a_child_that_a_body_cut_off_ends_at_once(worker: Process, acme: Tenant, deed: str, durable: bool) -> None:
    pid = worker.pid
    task_id = send(does, acme, deed, durable=durable)
    eventually(lambda: ended(task_id), "it ended", seconds=60)

    assert results_of(task_id) == {acme.schema_name: "FAILURE"}
    if durable:
        job = Job.objects.get(id=task_id)
        assert (job.state, job.kills) == ("dead", 3)
        assert groups(acme.schema_name) == []
    goes_on(worker, pid, acme)


@DURABLE
@pytest.mark.parametrize("deed", SUCCESSES)
def test_a_child_that_can_open_nothing_more_runs_no_other_task(
    worker: Process, acme: Tenant, deed: str, durable: bool
) -> None:
    pid = worker.pid
    task_id = send(does, acme, deed, durable=durable)
    eventually(lambda: ended(task_id), "it ended")

    assert results_of(task_id) == {acme.schema_name: "SUCCESS"}
    assert result_of(acme.schema_name, task_id).result == f'"{deed}"'
    goes_on(worker, pid, acme)


def test_a_worker_whose_main_loop_dies_ends_with_a_code_and_a_line(worker: Process, acme: Tenant) -> None:
    job_id = send(does, acme, "writes garbage")
    eventually(lambda: not worker.running, "it ended")
    assert worker.returncode not in (0, None)
    assert "Unrecoverable error" in worker.output
    assert "The worker ends with code" in worker.output

    worker.start()
    Job.objects.filter(id=job_id).delete()
    goes_on(worker, worker.pid, acme)
